"""The order of effects, written once for every worker.

A batch is the unit of work and of commit. See `Worker.turn` for the order and why it is so.
"""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from services.core import topics
from services.core.step import Batch, Decided, Output, Step
from services.runtime import logs, metrics
from services.runtime.health import Health
from services.runtime.ports import (
    Changelog,
    Positions,
    Store,
    Stores,
    Stream,
    StreamBrokenError,
    Transaction,
)
from services.runtime.restoring import Restoring

EncodeUsage = Callable[[str, Batch, Decided], list[Output]]
EncodeDead = Callable[[str, Batch, Decided], list[Output]]
RESTORE_SECONDS = 0.1
DEFAULT_POLL_SECONDS = 0.05
LAG_EVERY_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0


class Stop(Protocol):
    """A request to end: `threading.Event` is one."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float) -> bool: ...


class Accounts:
    """How a batch's usage and refusals become records; the wiring gives the encoders."""

    def __init__(self, usage: EncodeUsage, dead: EncodeDead) -> None:
        self.usage = usage
        self.dead = dead


class Worker:
    """Processes each input record exactly once: its outputs, state and position commit together."""

    def __init__(
        self, step: Step, stream: Stream, stores: Stores, changelog: Changelog, accounts: Accounts
    ) -> None:
        self._step = step
        self._stream = stream
        self._changelog = changelog
        self._accounts = accounts
        self._open: dict[int, Store] = {}
        self._restoring = Restoring(step.name, stream, stores, changelog)
        self._lag_at = 0.0
        self._log = logs.get(step.name)
        self.health = Health()

    def run(self, stop: Stop, poll_seconds: float = DEFAULT_POLL_SECONDS) -> None:
        """Work until `stop` is set. The batch under way is finished, nothing else is begun."""
        try:
            while not stop.is_set():
                try:
                    self.turn(poll_seconds)
                except StreamBrokenError as fault:
                    self._recover_in_time(stop, fault)
        finally:
            self.close()

    def turn(self, poll_seconds: float = DEFAULT_POLL_SECONDS) -> int:
        """One turn, in this order; returns how many records it settled.

        1. poll; partitions gained or lost meanwhile are let go, or restored a piece further;
        2. decide on each batch, reading (never writing) the partition's store;
        3. commit outputs, dead letters, usage, changelog and input offsets in one transaction;
        4. apply the changes to the local stores, with the positions they stand for.

        A crash before 3 leaves nothing; between 3 and 4 a store behind its changelog, which is
        replayed at the next start. A store is therefore never ahead.
        """
        batches = self._stream.poll(0.0 if self._restoring else poll_seconds)
        self._follow_assignment()
        if self._restoring:
            self._restore()
        batches = [batch for batch in map(self._unsettled, batches) if len(batch)]
        started = time.perf_counter()
        decided = [(batch, self._decide(batch)) for batch in batches] + self._refreshed(batches)
        if not decided:
            self._report_lag()
            return 0
        ends = self._stream.commit(self._transaction(decided))
        for batch, result in decided:
            self._apply(batch, result, ends.get(batch.partition))
        self._report(decided, time.perf_counter() - started)
        return sum(len(batch) for batch in batches)

    def _unsettled(self, batch: Batch) -> Batch:
        """What of the batch is this worker's to decide: nothing of a partition that it has not open,

        and nothing before the position that its store stands for, whatever the consumer reads again.
        """
        is_open = batch.partition in self._open
        return batch.since(self._at(batch.partition).input if is_open else batch.position)

    def _at(self, partition: int) -> Positions:
        return self._open[partition].positions() or Positions(0, 0)

    def _recover_in_time(self, stop: Stop, fault: StreamBrokenError) -> None:
        """Try to recover for as long as the broker needs; uncommitted work is decided again."""
        metrics.COMMIT_FAILURES.labels(self._step.name).inc()
        pause = FIRST_PAUSE_SECONDS
        while not stop.is_set():
            self.health.unready(f"recovering: {fault}")
            self._log.warning("recovering", fault=str(fault))
            stop.wait(FIRST_PAUSE_SECONDS)  # a fault that comes back at once must not spin
            try:
                self.recover()
            except StreamBrokenError as still:
                fault = still
                stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                self._log.info("recovered")
                return

    def recover(self) -> None:
        """Begin anew from what is committed, as after a start."""
        self._step.forget()
        self._close_stores()
        self._stream.recover()

    def close(self) -> None:
        self._close_stores()
        self._stream.close()

    def _close_stores(self) -> None:
        for store in self._open.values():
            store.close()
        self._open.clear()
        self._restoring.close()

    def _decide(self, batch: Batch) -> Decided:
        decided = self._step.process(batch, self._open[batch.partition].load)
        decided.check(len(batch), self._step.writes)
        return decided

    def _refreshed(self, busy: list[Batch]) -> list[tuple[Batch, Decided]]:
        """Changes that come without input, for partitions that have none in this turn."""
        refreshed = []
        for partition in self._open.keys() - {batch.partition for batch in busy}:
            result = self._step.refresh(partition, self._open[partition].load)
            if result is not None:
                refreshed.append((Batch("", partition, [], [], [], []), result))
        return refreshed

    def _transaction(self, decided: list[tuple[Batch, Decided]]) -> Transaction:
        writes: list[tuple[str, int | None, list[Output]]] = []
        changelog: list[tuple[str, int, list[Output]]] = []
        for batch, result in decided:
            writes += [(topic, None, outputs) for topic, outputs in result.outputs.items()]
            writes += [
                (topic, batch.partition, outputs) for topic, outputs in result.beside.items()
            ]
            if result.refusals:
                writes.append(
                    (topics.DEAD, None, self._accounts.dead(self._step.name, batch, result))
                )
            if result.usage.counts:
                usage = self._accounts.usage(self._step.name, batch, result)
                writes.append((topics.USAGE, None, usage))
            if changes := result.state_changes():
                outputs = self._changelog.encode(changes)
                changelog.append((self._changelog.topic, batch.partition, outputs))
        inputs = {batch.partition: batch.position for batch, _ in decided if len(batch)}
        return Transaction(writes, changelog, inputs)

    def _apply(self, batch: Batch, result: Decided, changelog_end: int | None) -> None:
        store = self._open[batch.partition]
        before = self._at(batch.partition)
        positions = Positions(
            batch.position if len(batch) else before.input,
            before.changelog if changelog_end is None else changelog_end,
        )
        store.apply(result.state_changes(), positions)

    def _follow_assignment(self) -> None:
        gained, lost, rebalanced = self._stream.assignment()
        if gained or lost:
            self._step.forget()
        for partition in lost:
            if (store := self._open.pop(partition, None)) is not None:
                store.close()
        self._restoring.drop(lost)
        self._restoring.begin(gained)
        if rebalanced and not self._restoring:
            self.health.ready()

    def _restore(self) -> None:
        """Go on with what is being restored. A partition whose store is whole is read from then on."""
        for partition, store in self._restoring.advance(RESTORE_SECONDS).items():
            self._open[partition] = store
            self._stream.start(partition)
        if self._restoring:
            self.health.unready(self._restoring.progress)
        else:
            self.health.ready()

    def _report(self, decided: Iterable[tuple[Batch, Decided]], seconds: float) -> None:
        name = self._step.name
        for batch, result in decided:
            metrics.RECORDS_IN.labels(name).inc(len(batch))
            for outcome, events in (
                ("emitted", result.emitted),
                ("dropped", result.dropped),
                ("forwarded", result.forwarded),
                ("refused", len(result.refusals)),
            ):
                metrics.RECORDS_OUT.labels(name, outcome).inc(events)
            if len(batch):
                age = time.time() - batch.timestamps[-1] / 1000
                metrics.LAG_SECONDS.labels(name).set(max(0.0, age))
        metrics.BATCH_SECONDS.labels(name).observe(seconds)
        self._report_lag()

    def _report_lag(self) -> None:
        now = time.monotonic()
        if now - self._lag_at < LAG_EVERY_SECONDS:
            return
        self._lag_at = now
        lag = self._stream.lag()
        for partition, records in lag.items():
            metrics.LAG_RECORDS.labels(self._step.name, partition).set(records)
        if not any(lag.values()):
            metrics.LAG_SECONDS.labels(self._step.name).set(0)
