"""The loop of every worker: poll, decide, commit, apply.

A batch is the unit of work and of commit. See `Worker.turn` for the order of effects and the reasons for it.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from weir.core import reasons
from weir.core.batch import Batch, Output, RefusedRecord, Step
from weir.core.dead_letter_content import is_cut
from weir.core.record_limits import LimitsInForce, WeirsOwnLimits
from weir.runtime import logs, metrics
from weir.runtime.deciding import AccountEncoders, Decider, Piece, merged
from weir.runtime.health import PARTITIONS_TAKEN, Health
from weir.runtime.lag import LagReport
from weir.runtime.narrowing import Suspects, halves
from weir.runtime.ports import (
    Changelog,
    RecordRefusedError,
    Store,
    StorePositions,
    Stores,
    Stream,
    StreamBrokenError,
    Transaction,
)
from weir.runtime.recovery_limit import RecoveryLimit
from weir.runtime.restoring import Restoring
from weir.runtime.stall_watch import StallWatch

RESTORE_SECONDS = 0.1
DEFAULT_POLL_SECONDS = 0.05
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0


class Stop(Protocol):
    """A request to end, such as a `threading.Event`."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float) -> bool: ...


class Worker:
    """Processes each input record exactly once: its outputs, state and position commit together."""

    def __init__(
        self,
        step: Step,
        stream: Stream,
        stores: Stores,
        changelog: Changelog,
        accounts: AccountEncoders,
        limits: LimitsInForce | None = None,
        progress: StallWatch | None = None,
        recoveries: RecoveryLimit | None = None,
    ) -> None:
        self._step = step
        self._stream = stream
        self._changelog = changelog
        self._limits = limits or WeirsOwnLimits()
        self._decider = Decider(step, accounts, changelog, self._limits)
        self._suspects = Suspects()
        self._open: dict[int, Store] = {}
        self._restoring = Restoring(step.name, stream, stores, changelog)
        self._lag = LagReport(step.name)
        self._recoveries = recoveries or RecoveryLimit()
        self._log = logs.get(step.name)
        self._progress = progress or StallWatch(step.name)
        self._knows_lag = False
        self.health = Health(self._progress)

    def run(self, stop: Stop, poll_seconds: float = DEFAULT_POLL_SECONDS) -> None:
        """Work until `stop` is set; then finish the current batch and start no other.

        `RecoveryFailedError` after too many recoveries without a commit between them.
        """
        try:
            while not stop.is_set():
                try:
                    self.turn(poll_seconds)
                except StreamBrokenError as fault:
                    self._recover_in_time(stop, fault)
        finally:
            self.close()

    def turn(self, poll_seconds: float = DEFAULT_POLL_SECONDS) -> int:
        """Do one turn in this order and return how many records it settled:

        1. poll; release lost partitions and continue to restore gained ones;
        2. decide on each batch, reading (never writing) the partition's store;
        3. commit outputs, dead letters, usage, changelog and input offsets in one transaction;
        4. apply the changes to the local stores, with the positions that they correspond to.

        A crash before 3 leaves no trace. A crash between 3 and 4 leaves a store behind its changelog,
        which is replayed at the next start. So a store is never ahead. If a record prevents the commit,
        2 to 4 are repeated, each time for some of the records.
        """
        batches = self._stream.poll(0.0 if self._restoring else poll_seconds)
        self._follow_assignment()
        if self._restoring:
            self._restore()
        batches = [batch for batch in map(self._unsettled, batches) if len(batch)]
        if batches:
            self._progress.found(_label(batch.partition) for batch in batches)
        refreshed = self._refreshed(batches)
        if not batches and not refreshed:
            self._report_lag()
            return 0
        for part in self._suspects.parts(batches):
            self._settle(part, refreshed)
            refreshed = []
        if refreshed:
            self._settle([], refreshed)
        return sum(len(batch) for batch in batches)

    def _settle(self, part: list[Batch], refreshed: list[Piece]) -> None:
        """Decide on these records, commit and apply; if brokers refuse a record, retry with fewer records at once."""
        try:
            self._attempt(self._pieces(part) + refreshed)
        except RecordRefusedError as fault:
            self._step.forget()
            if self._limits.refresh():
                self._settle(part, [])
            elif sum(map(len, part)) > 1:
                for half in halves(part):
                    self._settle(half, [])
            elif part:
                self._give_up(part, fault)
            else:
                raise StreamBrokenError(f"brokers refuse the changes: {fault}") from fault
            if part and refreshed:
                self._settle([], refreshed)
        except StreamBrokenError:
            self._suspects.failed(part)
            raise
        else:
            self._suspects.passed(part)

    def _give_up(self, part: list[Batch], fault: RecordRefusedError) -> None:
        """Make a dead letter of the single record, unless brokers currently refuse every record."""
        self._require_acceptance(self._pieces(part), fault)
        try:
            self._attempt(self._pieces(part))
        except RecordRefusedError as again:
            self._step.forget()
            self._require_acceptance(self._pieces(part), again)
            self._step.forget()
            (batch,) = part
            letter = self._decider.refused(batch, reasons.REFUSED_BY_KAFKA, str(again))
            try:
                self._attempt([letter])
            except RecordRefusedError as still:
                raise StreamBrokenError(f"brokers refuse the dead letter, too: {still}") from still

    def _require_acceptance(self, pieces: list[Piece], fault: RecordRefusedError) -> None:
        self._step.forget()
        if not self._stream.accepts(self._transaction(pieces)):
            raise StreamBrokenError(f"brokers refuse every record: {fault}") from fault

    def _attempt(self, pieces: list[Piece]) -> None:
        started = time.perf_counter()
        ends = self._stream.commit(self._transaction(pieces))
        self._recoveries.committed()
        self._apply(pieces, ends)
        self._progress.moved(_label(p.batch.partition) for p in pieces if len(p.batch))
        self._report(pieces, time.perf_counter() - started)

    def _unsettled(self, batch: Batch) -> Batch:
        """Return the part of the batch that this worker has to decide.

        That is nothing of a partition whose store is not open, and nothing before the position of the
        store, even if the consumer reads records again.
        """
        is_open = batch.partition in self._open
        return batch.since(self._at(batch.partition).input if is_open else batch.position)

    def _at(self, partition: int) -> StorePositions:
        return self._open[partition].positions() or StorePositions(0, 0)

    def _recover_in_time(self, stop: Stop, fault: StreamBrokenError) -> None:
        """Retry recovery for as long as the broker needs it; uncommitted work is decided again."""
        metrics.COMMIT_FAILURES.labels(self._step.name).inc()
        pause = FIRST_PAUSE_SECONDS
        while not stop.is_set():
            self.health.unready(f"recovering: {fault}")
            self._recoveries.begin(fault)
            self._log.warning("recovering", fault=str(fault))
            stop.wait(FIRST_PAUSE_SECONDS)  # against a busy loop if the fault recurs immediately
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
        """Start again from the committed state, as after a process start."""
        self._step.forget()
        self._knows_lag = False  # until the next assignment, keep reporting what waited before
        self._lag.disown()
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

    def _pieces(self, part: Iterable[Batch]) -> list[Piece]:
        decide = self._decider.pieces
        return [p for batch in part for p in decide(batch, self._open[batch.partition].load)]

    def _refreshed(self, busy: list[Batch]) -> list[Piece]:
        """Return changes that have no input record, for partitions without a batch in this turn."""
        idle = self._open.keys() - {batch.partition for batch in busy}
        found = [self._decider.refreshed(number, self._open[number].load) for number in idle]
        return [piece for piece in found if piece is not None]

    def _transaction(self, pieces: list[Piece]) -> Transaction:
        writes: list[tuple[str, int | None, list[Output]]] = []
        changelog: list[tuple[str, int, list[Output]]] = []
        for piece in pieces:
            writes += piece.writes
            if piece.changelog:
                changelog.append((self._changelog.topic, piece.batch.partition, piece.changelog))
        inputs = {p.batch.partition: p.batch.position for p in pieces if len(p.batch)}
        return Transaction(writes, changelog, inputs)

    def _apply(self, pieces: list[Piece], ends: Mapping[int, int]) -> None:
        """Apply all changes of a partition in one write: a crash between several would leave the store ahead."""
        inputs = {p.batch.partition: p.batch.position for p in pieces if len(p.batch)}
        for partition, changes in merged(pieces):
            before = self._at(partition)
            positions = StorePositions(
                inputs.get(partition, before.input), ends.get(partition, before.changelog)
            )
            self._open[partition].apply(changes, positions)

    def _follow_assignment(self) -> None:
        gained, lost, rebalanced = self._stream.assignment()
        if gained or lost:
            self._step.forget()
        for partition in lost:
            if (store := self._open.pop(partition, None)) is not None:
                store.close()
        self._restoring.drop(lost)
        self._restoring.begin(gained)
        if lost or rebalanced:
            self._knows_lag = rebalanced
        if lost and not rebalanced:
            self.health.unready(PARTITIONS_TAKEN)
        if rebalanced and not self._restoring:
            self.health.ready()

    def _restore(self) -> None:
        """Continue the restore, and start to read each partition whose store is complete."""
        for partition, store in self._restoring.advance(RESTORE_SECONDS).items():
            self._open[partition] = store
            self._stream.start(partition)
        if self._restoring:
            self.health.unready(self._restoring.progress)
        else:
            self.health.ready()

    def _report(self, pieces: Iterable[Piece], seconds: float) -> None:
        name = self._step.name
        for batch, result, _, _ in pieces:
            metrics.RECORDS_IN.labels(name).inc(len(batch))
            for outcome, events in (
                ("emitted", result.emitted),
                ("dropped", result.dropped),
                ("forwarded", result.forwarded),
                ("refused", len(result.refusals)),
            ):
                metrics.RECORDS_OUT.labels(name, outcome).inc(events)
            if result.refusals:
                self._report_dead(batch, result.refusals)
            if len(batch):
                self._lag.settled(str(batch.partition), batch.timestamps[-1])
        metrics.BATCH_SECONDS.labels(name).observe(seconds)
        self._report_lag()

    def _report_dead(self, batch: Batch, refusals: Sequence[RefusedRecord]) -> None:
        most = self._limits.present.letter
        cut = [r for r in refusals if is_cut(batch.keys[r.at], batch.values[r.at], most)]
        for refusal in refusals:
            metrics.DEAD.labels(self._step.name, refusal.reason).inc()
        metrics.LETTERS_CUT.labels(self._step.name).inc(len(cut))
        first = (cut or refusals)[0]
        self._log.error(
            "records became dead letters",
            records=len(refusals),
            without_content=len(cut),  # too large: only position, digest and reason are stored
            topic=batch.topic,
            partition=batch.partition,
            offset=batch.offsets[first.at],
            reason=first.reason,
        )

    def _report_lag(self) -> None:
        if self._lag.is_due(time.monotonic()):
            lag = self._stream.lag()
            if self._knows_lag:
                # a partition that is still being restored is not counted as stalled
                working = [number for number in lag if number in self._open]
                self._progress.waits({_label(number): lag[number] for number in working})
            self._lag.export({str(partition): records for partition, records in lag.items()})


def _label(partition: int) -> str:
    return f"partition {partition}"
