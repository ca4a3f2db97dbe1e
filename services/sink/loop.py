"""The sink's order of effects, written once: every record of every topic goes in exactly once.

For each partition, over and over:

1. read; when a range is due, fix its end;
2. commit its *start*, with the intent in the metadata;
3. insert its rows, under tokens that name the range; write what is condemned as dead letters;
4. commit its *end*.

A crash before 2 leaves nothing. Between 2 and 4 whoever comes next reads the same range again and
repeats 3, which ClickHouse drops where it has it. All commits of a turn go in one request.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.core import reasons, topics
from services.core.stages import SINK
from services.runtime.health import Health
from services.runtime.lag import LagReport
from services.runtime.metrics import DEAD, LETTERS_CUT, RECORDS_IN, RECORDS_OUT
from services.runtime.progress import StallWatch
from services.sink import metrics
from services.sink.partition import Limits, Partition
from services.sink.ports import (
    Buried,
    CommitFailedError,
    DeadLetters,
    DeadRecord,
    Insert,
    Inserts,
    Place,
    Polled,
    Records,
    RowsRefusedError,
)
from services.sink.ranges import Range
from services.sink.step import Routes, Verdict
from services.sink.suspicion import Next

IDLE_SECONDS = 1.0
BUSY_SECONDS = 0.05
GATHER_SECONDS = 0.1
FIRST_RETRY_SECONDS = 0.1
# While the buffer is full, a partition whose range has been under way for so long is set aside: it is
# read no further until that is in, and what it holds counts apart, up to so many times the buffer.
SLOW_SECONDS = 5.0
BUFFERS_ASIDE = 4


@dataclass(frozen=True)
class Options:
    limits: Limits
    buffer_bytes: int
    retry_seconds: float
    # how long records wait that nobody looks for within the second: each insert has a price of its own
    side_seconds: float | None = None
    # how long an attempt may be under way of which nothing is heard any more
    attempt_seconds: float = 120.0
    # attempts at once: partitions in trouble leave one of them to the others
    attempts: int = 2


@dataclass(frozen=True)
class Ports:
    records: Records
    inserts: Inserts
    dead_letters: DeadLetters


class Sink:
    """One member of the group: knows the order of effects, and no technology. One thread."""

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
        self._partitions: dict[Place, Partition] = {}
        self._full = False
        self._draining = False
        self._commit_failed = ""  # why
        self._away = ""
        self._letters_failed = ""  # why
        self._lag = LagReport(SINK.name)
        self._progress = StallWatch(SINK.name, clock=clock)
        self.health = Health(self._progress)

    def turn(self) -> None:
        """One turn: read, see what has gone in, begin what is due, commit, attempt what is committed."""
        self._take(self._records.poll(*self._patience(self._clock())))
        self._collect()
        self._begin(self._clock())
        if self._commit():
            self._attempt(self._clock())
        self._hold(self._clock())
        self._report()

    def drain(self, seconds: float) -> bool:
        """Put in what has been read, and read nothing more. False: it took too long; nothing is lost."""
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
        """How long to wait for records, and whether to gather them meanwhile or return at the first."""
        seconds, gather = IDLE_SECONDS, False
        for partition in self._all():
            if partition.under_way is not None:
                return BUSY_SECONDS, True
            if partition.range is not None:
                seconds, gather = min(seconds, partition.retry_at - now), True
            elif partition:
                due = partition.due_at(self._limits_of(partition.place))
                # of one that is read again the end is not here yet: return at the first record
                seconds = min(seconds, GATHER_SECONDS if due is None else due - now)
                gather = gather or due is not None
        if self._commit_failed:
            seconds = max(seconds, FIRST_RETRY_SECONDS)
        return min(max(seconds, 0.0), GATHER_SECONDS if gather else IDLE_SECONDS), gather

    def _take(self, polled: Polled) -> None:
        now = self._clock()
        for place in polled.lost:
            self._partitions.pop(
                place, None
            )  # with all that was read: its next owner reads it again
        for gain in polled.gained:
            self._partitions[gain.place] = Partition(gain, now + self._options.attempt_seconds)
        for slice_ in polled.slices:
            partition = self._partitions.get(slice_.place)
            if partition is not None:
                partition.add(slice_, now)
                RECORDS_IN.labels(SINK.name).inc(len(slice_.records.offsets))

    def _collect(self) -> None:
        for place, insert, fault in self._inserts.finished():
            partition = self._ended(place, insert)
            if partition is None or partition.range is None:
                continue  # it was taken away meanwhile, and is its next owner's to see through
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
                step = partition.suspicion.examined(finding, rows, self._clock())
                self._follow(partition, insert, step)
        for buried in self._dead_letters.finished():
            self._settle_letters(buried)

    def _ended(self, place: Place, attempt: Insert | Sequence[DeadRecord]) -> Partition | None:
        """Whose attempt it was, if it still is theirs."""
        partition = self._partitions.get(place)
        if partition is None or partition.under_way is not attempt:
            return None
        partition.under_way = None
        return partition

    def _settle_letters(self, buried: Buried) -> None:
        partition = self._ended(buried.place, buried.records)
        if buried.fault is None:
            LETTERS_CUT.labels(SINK.name).inc(buried.cut)
            if partition is not None and partition.range is not None:
                self._settle_dead(partition, partition.range, buried.records)
        else:
            self._log.warning("dead letters not written, trying again", fault=str(buried.fault))
            if partition is not None:
                self._letters_failed = str(buried.fault)
                self._postpone(partition)

    def _settle_dead(
        self, partition: Partition, range_: Range, records: Iterable[DeadRecord]
    ) -> None:
        for record in records:
            DEAD.labels(SINK.name, record.reason).inc()
        self._settle(partition, range_)

    def _follow(self, partition: Partition, insert: Insert, step: Next) -> None:
        """Do what follows from a failed insert, or from its examination."""
        suspicion = partition.suspicion
        if step is Next.EXAMINE:
            partition.under_way = insert
            self._inserts.examine(partition.place, insert)
        elif step is Next.BLAME:
            assert partition.range is not None
            suspicion.went_in()
            partition.range.refused(Verdict(reasons.REFUSED_BY_CLICKHOUSE, suspicion.detail))
            partition.retry_at = 0.0
        elif step is Next.CONFIRM:
            partition.retry_at = 0.0
        else:
            self._postpone(partition)
            if step is Next.WAIT:
                partition.examine_next, partition.retry_at = True, suspicion.ended_by
            self._away = self._away or self._told_away(insert.table, suspicion.detail)

    def _begin(self, now: float) -> None:
        due = {place: p.due_at(self._limits_of(place)) for place, p in self._partitions.items()}
        # Once one is due all of its kind go that have anything: commits of their own would cost more.
        ready = {_is_side(place) for place, at in due.items() if at is not None and at <= now}
        for place, at in due.items():
            if at is not None and _is_side(place) in ready:
                range_ = self._partitions[place].begin(self._limits_of(place), self._routes, now)
                if range_.done:  # nothing but tombstones
                    self._partitions[place].finish()

    def _limits_of(self, place: Place) -> Limits:
        return self._side_limits if _is_side(place) else self._limits

    def _commit(self) -> bool:
        owed = [(p, commit) for p in self._all() if (commit := p.owed()) is not None]
        if not owed:
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
        """Start what the committed intents say, and nothing else. Events first: analysts wait for them."""
        in_trouble = sum(p.under_way is not None and p.in_trouble for p in self._all())
        for partition in sorted(self._all(), key=_is_bookkeeping):
            range_ = partition.range
            if range_ is None or partition.under_way is not None or partition.retry_at > now:
                continue
            if partition.owed() is not None:
                continue
            insert = range_.insert()
            if insert is None:
                self._bury(partition, range_)
                continue
            if partition.in_trouble:
                if in_trouble >= max(1, self._options.attempts - 1):
                    continue  # in its turn: the others are not to wait
                in_trouble += 1
            partition.under_way = insert
            start = self._inserts.examine if partition.examine_next else self._inserts.start
            partition.examine_next = False
            start(partition.place, insert)

    def _bury(self, partition: Partition, range_: Range) -> None:
        records = range_.condemned()
        if range_.place.topic != topics.DEAD:
            partition.under_way = records
            self._dead_letters.start(partition.place, records)
            return
        # a dead letter of a dead letter would go round for ever; its record stays in the topic
        metrics.LOST.inc(len(records))
        for record in records:
            self._log.error(
                "a dead letter cannot go in; it is in the topic alone",
                partition=record.place.partition,
                offset=record.offset,
                reason=record.reason,
                detail=record.detail,
            )
        self._settle_dead(partition, range_, records)

    def _all(self) -> Iterable[Partition]:
        return self._partitions.values()

    def _settle(self, partition: Partition, range_: Range) -> None:
        range_.settled()
        partition.suspicion.went_in()
        self._progress.moved([_label(partition.place)])
        partition.failures, partition.retry_at = 0, 0.0
        if range_.done:
            RECORDS_OUT.labels(SINK.name, "inserted").inc(range_.size)
            self._lag.settled(_label(partition.place), range_.newest)
            partition.finish()

    def _postpone(self, partition: Partition) -> None:
        pause = FIRST_RETRY_SECONDS * 2.0 ** min(partition.failures, 16)
        partition.failures += 1
        partition.retry_at = self._clock() + min(pause, self._options.retry_seconds)

    def _told_away(self, table: str, fault: str) -> str:
        self._log.warning("ClickHouse does not take rows, trying again", table=table, fault=fault)
        return fault

    def _hold(self, now: float) -> None:
        """Read no more than there is room for. Whoever takes long fills nobody else's room."""
        aside, room = set(), BUFFERS_ASIDE * self._options.buffer_bytes
        size = 0
        for partition in self._all():
            if self._full and partition.range and now - partition.begun_at > SLOW_SECONDS:
                partition.aside = True
            if partition.aside and partition.held_bytes <= room:
                aside.add(partition.place)
                room -= partition.held_bytes
            else:
                size += partition.held_bytes
        if size >= self._options.buffer_bytes:
            # only while something can go in: a range that is read again may need more than that
            self._full = any(p.range is not None for p in self._all())
        elif size < self._options.buffer_bytes // 2:
            self._full = False
        all_of_them = self._full or self._draining
        self._records.hold(self._partitions.keys() if all_of_them else aside)
        metrics.BUFFERED_BYTES.set(sum(p.held_bytes for p in self._all()))
        metrics.HELD.set(self._full)

    def _report(self) -> None:
        if not any(p.failures for p in self._all()):
            if self._away:
                self._log.info("ClickHouse takes rows again")
            self._away = self._letters_failed = ""
        if self._letters_failed:  # after ClickHouse has refused their rows
            self.health.unready(f"dead letters cannot be written: {self._letters_failed}")
        elif self._away:
            self.health.unready(f"ClickHouse does not take rows: {self._away}")
        elif self._commit_failed:
            self.health.unready(f"the broker does not take commits: {self._commit_failed}")
        elif self._records.trouble:
            self.health.unready(self._records.trouble)
        else:
            self.health.ready()
        if self._lag.is_due(self._clock()):
            waiting = self._waiting()
            labelled = {_label(place): records for place, records in waiting.items()}
            self._lag.export(labelled)
            if not self._records.trouble:  # else what waits is not known
                self._progress.waits(labelled)

    def _waiting(self) -> dict[Place, int]:
        """Records that are not in yet, whether they have been read or not."""
        held = {place: p.waiting for place, p in self._partitions.items()}
        return {
            place: records + held.get(place, 0) for place, records in self._records.lag().items()
        }


def _label(place: Place) -> str:
    return f"{place.topic}-{place.partition}"


def _is_bookkeeping(partition: Partition) -> bool:
    return partition.place.topic != topics.RESOLVED


def _is_side(place: Place) -> bool:
    return place.topic != topics.RESOLVED
