"""The sink's main loop: insert every record of every topic into ClickHouse exactly once.

For each partition, repeatedly:

1. read; when a range is due, fix its end;
2. commit its *start*, with the intent in the metadata;
3. insert its rows, with deduplication tokens that name the range; write its dead rows as dead letters;
4. commit its *end*.

A crash before 2 leaves no trace. After a crash between 2 and 4, the next owner of the partition reads the same
range again and repeats 3; ClickHouse drops the inserts that it already has. All commits of a turn go in one
request.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from weir.core import reasons, topics
from weir.core.stages import SINK
from weir.runtime.health import Health
from weir.runtime.lag import LagReport
from weir.runtime.metrics import DEAD, LETTERS_CUT, RECORDS_IN, RECORDS_OUT
from weir.runtime.sink_ports import (
    CommitFailedError,
    DeadLetters,
    DeadRecord,
    Insert,
    Inserts,
    PartitionId,
    Polled,
    Records,
    RowsRefusedError,
    WrittenLetters,
)
from weir.runtime.stall_watch import StallWatch
from weir.sink import metrics
from weir.sink.partition import Limits, Partition
from weir.sink.ranges import InsertAttempt
from weir.sink.scheduling import InsertScheduler, ReadBuffer, is_bookkeeping, is_overdue
from weir.sink.step import PoisonReason, Routes
from weir.sink.suspicion import Next

IDLE_SECONDS = 1.0
BUSY_SECONDS = 0.05
GATHER_SECONDS = 0.1
FIRST_RETRY_SECONDS = 0.1
LETTERS_FAIL = "dead letters cannot be written: "


@dataclass(frozen=True)
class Options:
    limits: Limits
    buffer_bytes: int
    retry_seconds: float
    # How long records other than events wait for their insert; None: as long as events. Nobody needs these
    # records within a second, and each insert has a fixed cost.
    side_seconds: float | None = None
    # how long an insert may still be running in ClickHouse after its answer was lost
    attempt_seconds: float = 120.0
    attempts: int = 2  # concurrent inserts


@dataclass(frozen=True)
class Ports:
    records: Records
    inserts: Inserts
    dead_letters: DeadLetters


class Sink:
    """One member of the consumer group: keeps the order of effects, knows no technology, runs in one thread."""

    def __init__(
        self,
        ports: Ports,
        routes: Routes,
        options: Options,
        log: Any,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records, self._inserts = ports.records, ports.inserts
        self._dead_letters = ports.dead_letters
        self._routes = routes
        self._options = options
        self._limits = options.limits
        self._side_limits = options.limits
        if options.side_seconds is not None:
            self._side_limits = replace(options.limits, seconds=options.side_seconds)
        self._log = log
        self._clock = clock
        self._partitions: dict[PartitionId, Partition] = {}
        self._scheduler = InsertScheduler(options.attempts)
        self._buffer = ReadBuffer(options.buffer_bytes)
        self._draining = False
        self._commit_failed = ""  # why the latest commit failed; empty: it did not
        self._refusal_logged = False
        self._lag = LagReport(SINK.name)
        self._progress = StallWatch(SINK.name, clock=clock)
        self.health = Health(self._progress)

    def turn(self) -> None:
        """Do one turn: read, collect finished inserts, begin due ranges, commit, start the committed inserts."""
        self._take(self._records.poll(*self._patience(self._clock())))
        self._collect()
        self._begin(self._clock())
        if self._commit():
            self._attempt(self._clock())
        self._hold(self._clock())
        self._report()

    def drain(self, seconds: float) -> bool:
        """Insert all records read so far and read no more. Return False if it took too long; then nothing is lost."""
        self._limits = self._side_limits = replace(self._limits, seconds=0.0)
        self._draining = True
        self._hold(self._clock())
        deadline = self._clock() + seconds
        while self._busy() and self._clock() < deadline:
            self.turn()
        return not self._busy()

    def _busy(self) -> bool:
        return any(
            p.range is not None or p.owed() is not None or (p and not p.repeating)
            for p in self._all()
        )

    def _patience(self, now: float) -> tuple[float, bool]:
        """Return (seconds to wait for records, whether to gather them that long or return at the first record)."""
        seconds, gather = IDLE_SECONDS, False
        for partition in self._all():
            if partition.under_way is not None:
                return BUSY_SECONDS, True
            if partition.range is not None:
                seconds, gather = min(seconds, partition.retry_at - now), True
            elif partition:
                due = partition.due_at(self._limits_of(partition.place))
                # due is None: a range is being read again and its end is not read yet; return at the first record
                seconds = min(seconds, GATHER_SECONDS if due is None else due - now)
                gather = gather or due is not None
        if self._commit_failed:
            seconds = max(seconds, FIRST_RETRY_SECONDS)
        return min(max(seconds, 0.0), GATHER_SECONDS if gather else IDLE_SECONDS), gather

    def _take(self, polled: Polled) -> None:
        now = self._clock()
        for place in polled.lost:
            # drop what was read: the next owner of the partition reads it again
            self._partitions.pop(place, None)
            self._inserts.abandon(place)
        for gain in polled.gained:
            self._partitions[gain.place] = Partition(gain, now + self._options.attempt_seconds)
        for slice_ in polled.slices:
            partition = self._partitions.get(slice_.place)
            if partition is not None:
                partition.add(slice_, now)
                if partition:
                    self._progress.found([_label(slice_.place)])
                RECORDS_IN.labels(SINK.name).inc(len(slice_.records.offsets))

    def _collect(self) -> None:
        for place, insert, fault in self._inserts.finished():
            partition = self._ended(place, insert)
            if partition is None or partition.range is None:
                continue  # the partition was lost meanwhile; its next owner completes the range
            if fault is None:
                metrics.ROWS.labels(insert.table).inc(len(insert.values))
                self._settle(partition, partition.range)
                continue
            if isinstance(fault, RowsRefusedError):
                metrics.REFUSED.inc()
            else:
                metrics.INSERT_RETRIES.inc()
            ended_by = self._clock() + self._options.attempt_seconds
            step = partition.suspicion.failed(fault, len(insert.values), ended_by)
            self._follow(partition, insert, step)
        for place, insert, finding in self._inserts.examined():
            partition = self._ended(place, insert)
            if partition is not None and partition.range is not None:
                rows = len(insert.values)
                step = partition.suspicion.examined(finding, rows, partition.asked_at)
                self._follow(partition, insert, step)
        for written in self._dead_letters.finished():
            self._settle_letters(written)

    def _ended(
        self, place: PartitionId, attempt: Insert | Sequence[DeadRecord]
    ) -> Partition | None:
        """Mark an attempt as ended and return its partition; None if it is not the partition's current attempt."""
        partition = self._partitions.get(place)
        if partition is None or partition.under_way is not attempt:
            return None
        partition.under_way = None
        return partition

    def _settle_letters(self, written: WrittenLetters) -> None:
        partition = self._ended(written.place, written.records)
        if written.fault is None:
            LETTERS_CUT.labels(SINK.name).inc(written.cut)
            if partition is not None and partition.range is not None:
                self._settle_dead(partition, partition.range, written.records)
        else:
            self._log.warning("dead letters not written, trying again", fault=str(written.fault))
            if partition is not None:
                self._postpone(partition, f"{LETTERS_FAIL}{written.fault}")

    def _settle_dead(
        self, partition: Partition, range_: InsertAttempt, records: Iterable[DeadRecord]
    ) -> None:
        for record in records:
            DEAD.labels(SINK.name, record.reason).inc()
        self._settle(partition, range_)

    def _follow(self, partition: Partition, insert: Insert, step: Next) -> None:
        """Carry out the decision that followed a failed insert or its examination."""
        suspicion, now = partition.suspicion, self._clock()
        if step is Next.EXAMINE:
            partition.examine_next, partition.retry_at = True, now
        elif step is Next.BLAME:
            assert partition.range is not None
            suspicion.went_in()
            partition.range.refused(PoisonReason(reasons.REFUSED_BY_CLICKHOUSE, suspicion.detail))
            partition.retry_at = now
        elif step is Next.CONFIRM:
            partition.retry_at = now
        else:
            self._postpone(partition, f"ClickHouse does not accept rows: {suspicion.detail}")
            if step is Next.WAIT:
                partition.examine_next, partition.retry_at = True, suspicion.ended_by
            if not self._refusal_logged:
                text, table = "ClickHouse does not accept rows, trying again", insert.table
                self._log.warning(text, table=table, fault=suspicion.detail)
                self._refusal_logged = True

    def _begin(self, now: float) -> None:
        due = {place: p.due_at(self._limits_of(place)) for place, p in self._partitions.items()}
        # Once one partition is due, all of its kind that have records begin too: separate commits would cost more.
        ready = {is_bookkeeping(place) for place, at in due.items() if at is not None and at <= now}
        for place, at in due.items():
            if at is not None and is_bookkeeping(place) in ready:
                partition = self._partitions[place]
                range_ = partition.begin(self._limits_of(place), self._routes, now)
                if range_.done:  # it holds only tombstones
                    self._progress.moved([_label(place)])
                    self._finish(partition, range_)

    def _limits_of(self, place: PartitionId) -> Limits:
        return self._side_limits if is_bookkeeping(place) else self._limits

    def _commit(self) -> bool:
        owed = [(p, commit) for p in self._all() if (commit := p.owed()) is not None]
        if not owed:
            self._commit_failed = ""
            return True
        try:
            self._records.commit([commit for _, commit in owed])
        except CommitFailedError as fault:
            metrics.COMMIT_FAILURES.inc()
            if not self._commit_failed:
                self._log.warning("commit failed, trying again", fault=str(fault))
            self._commit_failed = str(fault)
            return False
        self._commit_failed = ""
        for partition, commit in owed:
            partition.confirmed = (commit.offset, commit.metadata)
        return True

    def _attempt(self, now: float) -> None:
        """Start the inserts and dead letters that the committed intents name, and nothing else."""
        for partition, insert in self._scheduler.next_inserts(self._all(), self._inserts.free, now):
            if insert is None:
                assert partition.range is not None
                self._write_dead_letters(partition, partition.range)
            elif partition.examine_next:
                partition.under_way, partition.asked_at = insert, now
                partition.examine_next = False
                self._inserts.examine(partition.place, insert)
            else:
                partition.under_way = insert
                self._inserts.start(partition.place, insert)

    def _write_dead_letters(self, partition: Partition, range_: InsertAttempt) -> None:
        records = range_.dead_records()
        if range_.place.topic != topics.DEAD:
            partition.under_way = records
            self._dead_letters.start(partition.place, records)
            return
        # a dead letter about a dead letter would loop for ever; the record stays in the topic
        metrics.LOST.inc(len(records))
        for record in records:
            self._log.error(
                "a dead letter cannot be inserted; it is only in the topic",
                partition=record.place.partition,
                offset=record.offset,
                reason=record.reason,
                detail=record.detail,
            )
        self._settle_dead(partition, range_, records)

    def _all(self) -> Collection[Partition]:
        return self._partitions.values()

    def _settle(self, partition: Partition, range_: InsertAttempt) -> None:
        range_.settled()
        partition.suspicion.went_in()
        # partitions that wait for their turn count as moving too, as long as they are not overdue: with many
        # partitions a turn may take a while
        now = self._clock()
        waiting = (
            p
            for p in self._all()
            if p.range and not p.in_trouble and p.under_way is None and not is_overdue(p, now)
        )
        self._progress.moved(_label(p.place) for p in (partition, *waiting))
        partition.failures, partition.retry_at, partition.trouble = 0, now, ""
        if range_.done:
            RECORDS_OUT.labels(SINK.name, "inserted").inc(range_.size)
            self._finish(partition, range_)

    def _finish(self, partition: Partition, range_: InsertAttempt) -> None:
        self._lag.settled(_label(partition.place), range_.newest)
        partition.finish()

    def _postpone(self, partition: Partition, why: str) -> None:
        partition.trouble = why
        pause = FIRST_RETRY_SECONDS * 2.0 ** min(partition.failures, 16)
        partition.failures += 1
        partition.retry_at = self._clock() + min(pause, self._options.retry_seconds)

    def _hold(self, now: float) -> None:
        held = self._buffer.held(self._all(), now, self._draining)
        self._records.hold(held)
        metrics.BUFFERED_BYTES.set(sum(p.held_bytes for p in self._all()))
        metrics.HELD.set(self._buffer.is_full)

    def _report(self) -> None:
        troubles = [p.trouble for p in self._all() if p.trouble]
        if self._refusal_logged and not troubles:
            self._refusal_logged = False
            self._log.info("ClickHouse accepts rows again")
        if troubles:
            # failing dead letters come first: they are the later problem, after ClickHouse has refused their rows
            self.health.unready(max(troubles, key=lambda why: why.startswith(LETTERS_FAIL)))
        elif self._commit_failed:
            self.health.unready(f"the broker does not accept commits: {self._commit_failed}")
        elif self._records.trouble:
            self.health.unready(self._records.trouble)
        else:
            self.health.ready()
        if self._lag.is_due(self._clock()):
            waiting = self._waiting()
            labelled = {_label(place): records for place, records in waiting.items()}
            self._lag.export(labelled)
            if not self._records.trouble:  # otherwise the number of waiting records is unknown
                self._progress.waits(labelled)

    def _waiting(self) -> dict[PartitionId, int]:
        """Return the number of records not yet inserted, read or not, by partition."""
        held = {place: p.waiting for place, p in self._partitions.items()}
        return {
            place: records + held.get(place, 0) for place, records in self._records.lag().items()
        }


def _label(place: PartitionId) -> str:
    return f"{place.topic}-{place.partition}"
