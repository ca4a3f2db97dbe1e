"""In-memory implementations of the sink's ports, with the same guarantees: for tests and trials without a broker."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from weir.adapters.dead_letters import sink_letter
from weir.core import topics
from weir.core.record_limits import WeirsOwnLimits
from weir.runtime.sink_ports import (
    Columns,
    Commit,
    CommitFailedError,
    DeadLettersFailedError,
    DeadRecord,
    Examination,
    Examined,
    Finished,
    Gain,
    Insert,
    PartitionId,
    Polled,
    RowsRefusedError,
    Slice,
    Warehouse,
    WarehouseAwayError,
    WrittenLetters,
)


class MemorySinkRecord(NamedTuple):
    offset: int
    key: bytes
    value: bytes | None


class MemoryTopics:
    """Partitions with gaps in their offsets (transaction markers), and one group's commits."""

    def __init__(self) -> None:
        self.records: dict[PartitionId, list[MemorySinkRecord]] = {}
        self.ends: dict[PartitionId, int] = {}
        self.commits: dict[PartitionId, tuple[int, str]] = {}
        self.owners: dict[PartitionId, object] = {}
        self._made: dict[str, int] = {}

    def topic_id(self, topic: str) -> str:
        return f"{topic}-{self._made.get(topic, 0)}"

    def remake(self, topic: str) -> None:
        """Delete and recreate the topic: offsets start at 0, and the commits are gone."""
        self._made[topic] = self._made.get(topic, 0) + 1
        for place in [place for place in self.ends if place.topic == topic]:
            self.ends[place] = 0
            self.records[place] = []
            self.commits.pop(place, None)

    def write(self, place: PartitionId, value: bytes | None, key: bytes = b"") -> int:
        offset = self.ends.get(place, 0)
        self.records.setdefault(place, []).append(MemorySinkRecord(offset, key, value))
        self.ends[place] = offset + 1
        return offset

    def mark(self, place: PartitionId) -> None:
        """Write a transaction marker: an offset without a record."""
        self.records.setdefault(place, [])
        self.ends[place] = self.ends.get(place, 0) + 1


class MemoryRecords:
    """`weir.runtime.sink_ports.Records` in memory. `assign` takes the role of the group coordinator."""

    def __init__(self, log: MemoryTopics, poll_records: int = 5) -> None:
        self._log = log
        self._poll_records = poll_records
        self._next: dict[PartitionId, int] = {}
        self._gained: set[PartitionId] = set()
        self._lost: set[PartitionId] = set()
        self._held: frozenset[PartitionId] = frozenset()
        self.trouble = ""

    @property
    def assigned(self) -> set[PartitionId]:
        return set(self._next)

    def assign(self, places: set[PartitionId]) -> None:
        """Assign exactly these partitions. Lost ones are given up at once: nothing more is committed for them."""
        lost = set(self._next) - places
        for place in lost:
            del self._next[place]
            self._lost.add(place)
            self._gained.discard(place)
        for place in places - set(self._next):
            self._next[place] = self._log.commits.get(place, (0, ""))[0]
            self._gained.add(place)
            self._log.owners[place] = self

    def poll(self, seconds: float, gather: bool) -> Polled:
        lost, self._lost = self._lost, set()
        gained = []
        for place in sorted(self._gained):
            offset, metadata = self._log.commits.get(place, (None, ""))
            gained.append(Gain(place, self._log.topic_id(place.topic), offset, metadata))
        self._gained.clear()
        return Polled(lost, gained, self._slices())

    def commit(self, commits: Sequence[Commit]) -> None:
        # like a broker: a member of an older group generation cannot commit
        if any(self._log.owners.get(commit.place) is not self for commit in commits):
            raise CommitFailedError("another member owns it")
        for place, offset, metadata in commits:
            self._log.commits[place] = (offset, metadata)

    def hold(self, places: Collection[PartitionId]) -> None:
        self._held = frozenset(places)

    def lag(self) -> Mapping[PartitionId, int]:
        return {place: self._log.ends.get(place, 0) - at for place, at in self._next.items()}

    def close(self) -> None:
        self.assign(set())

    def _slices(self) -> list[Slice]:
        slices = []
        for place, at in sorted(self._next.items()):
            if place in self._held:
                continue
            waiting = [r for r in self._log.records.get(place, []) if r.offset >= at]
            taken = waiting[: self._poll_records]
            end = self._log.ends.get(place, 0)
            if not taken and at >= end:
                continue
            position = taken[-1].offset + 1 if len(taken) < len(waiting) else end
            columns = Columns(
                [r.offset for r in taken],
                [r.value for r in taken],
                [r.key for r in taken],
                [0 for _ in taken],
            )
            slices.append(Slice(place, columns, position))
            self._next[place] = position
        return slices


class MemoryDeadLetters:
    """`weir.runtime.sink_ports.DeadLetters` in memory: one partition of `events.dead`, written by `start`."""

    def __init__(self, log: MemoryTopics) -> None:
        self._log = log
        self._finished: list[WrittenLetters] = []
        self.broken: DeadLettersFailedError | None = None  # if set, every write raises it

    def start(self, place: PartitionId, records: Sequence[DeadRecord]) -> None:
        try:
            self._finished.append(WrittenLetters(place, records, self.write(records), None))
        except DeadLettersFailedError as fault:
            self._finished.append(WrittenLetters(place, records, 0, fault))

    def finished(self) -> list[WrittenLetters]:
        done, self._finished = self._finished, []
        return done

    def write(self, records: Sequence[DeadRecord]) -> int:
        if self.broken is not None:
            raise self.broken
        for record in records:
            self._log.write(
                PartitionId(topics.DEAD, 0), sink_letter(record, WeirsOwnLimits.present.letter)
            )
        return 0


class MemoryWarehouse:
    """`weir.runtime.sink_ports.Warehouse` in memory: ignores known tokens, refuses whole inserts with bad rows.

    `heavy` rows simulate a lack of memory: an insert with one of them fails as a whole, but is not refused.
    """

    def __init__(
        self,
        bad: Callable[[bytes], bool] = lambda _: False,
        heavy: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        self.rows: list[tuple[str, bytes]] = []
        self.tokens: set[str] = set()
        self.bad = bad
        self.heavy = heavy
        self.away = False
        # if set, every insert raises it
        self.broken: WarehouseAwayError | RowsRefusedError | None = None

    def insert(self, insert: Insert) -> None:
        if self.away:
            raise WarehouseAwayError("away", sent=False)
        if self.broken is not None:
            raise self.broken
        if any(self.heavy(value) for value in insert.values):
            raise WarehouseAwayError("no memory", "241", answered=True)
        if insert.token in self.tokens:
            return
        if any(self.bad(value) for value in insert.values):
            raise RowsRefusedError("a row is bad")
        self.tokens.add(insert.token)
        self.rows += [(insert.table, value) for value in insert.values]

    def examine(self, insert: Insert) -> Examination:
        present = {value for table, value in self.rows if table == insert.table}
        rows_in = self.away or any(value in present for value in insert.values)
        return Examination(not self.away and self.broken is None, rows_in)


class MemoryInserts:
    """`weir.runtime.sink_ports.Inserts` without threads: an insert is in progress until `run` executes it."""

    def __init__(self, warehouse: Warehouse, clock: Callable[[], float] = lambda: 0.0) -> None:
        self._warehouse = warehouse
        self._clock = clock
        self.waiting: list[tuple[PartitionId, Insert]] = []
        self._started: list[float] = []
        self._finished: list[Finished] = []
        self._examined: list[Examined] = []

    @property
    def free(self) -> int:
        return 1_000  # more than any test needs

    def abandon(self, place: PartitionId) -> None:
        """Do nothing: every insert counts as running already, as if a thread had taken it."""

    def start(self, place: PartitionId, insert: Insert) -> None:
        self.waiting.append((place, insert))
        self._started.append(self._clock())

    def run(self, index: int = 0, *, answered: bool = True) -> None:
        """Run an insert in progress; if not `answered`, its result is unknown: `WarehouseAwayError`."""
        place, insert = self.waiting.pop(index)
        del self._started[index]
        fault: RowsRefusedError | WarehouseAwayError | None = None
        try:
            self._warehouse.insert(insert)
        except (RowsRefusedError, WarehouseAwayError) as raised:
            fault = raised
        if not answered:
            fault = WarehouseAwayError("no answer")
        self._finished.append(Finished(place, insert, fault))

    def run_started_before(self, time: float) -> None:
        """Run all inserts that were started before `time`: ClickHouse ends inserts that take too long."""
        while self._started and self._started[0] < time:
            self.run()

    def finished(self) -> list[Finished]:
        done, self._finished = self._finished, []
        return done

    def examine(self, place: PartitionId, insert: Insert) -> None:
        self._examined.append(Examined(place, insert, self._warehouse.examine(insert)))

    def examined(self) -> list[Examined]:
        done, self._examined = self._examined, []
        return done
