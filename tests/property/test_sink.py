"""The sink stores every record once or makes it a dead letter, under refusals, rebalances and crashes."""

from collections import Counter
from collections.abc import Sequence

import structlog
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.profiles import examples
from weir.adapters import avro
from weir.adapters.memory_sink import (
    MemoryDeadLetters,
    MemoryInserts,
    MemoryRecords,
    MemoryTopics,
    MemoryWarehouse,
)
from weir.core import topics
from weir.runtime.sink_ports import (
    Commit,
    CommitFailedError,
    DeadLettersFailedError,
    DeadRecord,
    PartitionId,
    RowsRefusedError,
    WarehouseAwayError,
)
from weir.sink.loop import Options, Ports, Sink
from weir.sink.partition import Limits
from weir.sink.step import Routes

PLACES = [PartitionId("profiles", 0), PartitionId("profiles", 1), PartitionId("events.resolved", 0)]
DEAD_PLACE = PartitionId(topics.DEAD, 0)
EVERYWHERE = {*PLACES, DEAD_PLACE}
BAD = b"bad"  # refused
WORSE = b"bad worse"  # refused even as the value of a dead letter
HEAVY = b"heavy"  # more than ClickHouse has room for, at times
ATTEMPT_SECONDS = 5.0  # no insert is under way for longer
HEADERS = [avro.schemas()[name].header for name in ("Profile", "Merge", "Link")]
ROUTES = Routes(avro.name_of)
LOG = structlog.wrap_logger(
    None, processors=[lambda *_: (_ for _ in ()).throw(structlog.DropEvent)]
)


def is_bad(value: bytes) -> bool:
    return value.startswith(BAD, 10) or WORSE in value


def is_heavy(value: bytes) -> bool:
    return value.startswith(HEAVY, 10)


class CrashError(BaseException):
    """The process ends here."""


class Fuse:
    """Blows at a port's nth effect from now: before it, or after it has been done."""

    def __init__(self) -> None:
        self.left = -1
        self.after = False
        self.as_fault = False

    def effect(self, done: bool) -> None:
        if done == self.after and self.left >= 0:
            self.left -= 1
            if self.left < 0:
                raise CrashError


class CrashingRecords(MemoryRecords):
    def __init__(self, log: MemoryTopics, fuse: Fuse) -> None:
        super().__init__(log)
        self._fuse = fuse

    def commit(self, commits: Sequence[Commit]) -> None:
        try:
            self._fuse.effect(done=False)
            super().commit(commits)
            self._fuse.effect(done=True)
        except CrashError:
            if self._fuse.as_fault:
                raise CommitFailedError("no answer") from None
            raise


class CrashingDeadLetters(MemoryDeadLetters):
    def __init__(self, log: MemoryTopics, fuse: Fuse) -> None:
        super().__init__(log)
        self._fuse = fuse

    def write(self, records: Sequence[DeadRecord]) -> int:
        try:
            self._fuse.effect(done=False)
            cut = super().write(records)
            self._fuse.effect(done=True)
            return cut
        except CrashError:
            if self._fuse.as_fault:
                raise DeadLettersFailedError("no answer") from None
            raise


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Member:
    """One process of the group."""

    def __init__(
        self,
        log: MemoryTopics,
        warehouse: MemoryWarehouse,
        fuse: Fuse,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self.records = CrashingRecords(log, fuse)
        self.inserts = MemoryInserts(warehouse, clock)
        ports = Ports(self.records, self.inserts, CrashingDeadLetters(log, fuse))
        options = Options(
            limits, buffer_bytes=10_000, retry_seconds=0.1, attempt_seconds=ATTEMPT_SECONDS
        )
        self.sink = Sink(ports, ROUTES, options, LOG, clock)


class SinkMachine(RuleBasedStateMachine):
    """Two members share the partitions; either may end, lose or gain any of them at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.log = MemoryTopics()
        self.refusing = True
        self.narrow = True  # has no room for heavy rows
        self.clock = Clock()
        self.warehouse = MemoryWarehouse(
            lambda value: self.refusing and is_bad(value),
            lambda value: self.narrow and is_heavy(value),
        )
        self.fuse = Fuse()
        self.written: list[tuple[PartitionId, int, bytes]] = []
        self.orphans: list[MemoryInserts] = []
        self.members = [self.member(), self.member()]
        self.members[0].records.assign(set(EVERYWHERE))

    def member(self, rows: int = 4) -> Member:
        return Member(self.log, self.warehouse, self.fuse, Limits(0.5, rows, 1_000), self.clock)

    @rule(
        place=st.sampled_from(PLACES),
        header=st.sampled_from(HEADERS),
        mark=st.sampled_from([b"", b"", b"", BAD, WORSE, HEAVY]),
        times=st.integers(1, 7),
    )
    def write(self, place: PartitionId, header: bytes, mark: bytes, times: int) -> None:
        for _ in range(times):
            value = header + mark + f"/{len(self.written)}/".encode()
            self.written.append((place, self.log.write(place, value), value))

    @rule(place=st.sampled_from(PLACES), tombstone=st.booleans())
    def leave_a_hole(self, place: PartitionId, tombstone: bool) -> None:
        if tombstone:
            self.log.write(place, None)
        else:
            self.log.mark(place)

    @rule(topic=st.sampled_from(sorted({place.topic for place in PLACES})))
    def make_anew(self, topic: str) -> None:
        """Once all is in, a topic is deleted and made again."""
        self.drain()
        places = {place for place in PLACES if place.topic == topic}
        owner = self.members[0].records
        owner.assign(EVERYWHERE - places)
        self.log.remake(topic)
        owner.assign(set(EVERYWHERE))

    @rule(number=st.integers(0, 1), seconds=st.sampled_from([0.0, 0.3, 1.0]))
    def turn(self, number: int, seconds: float) -> None:
        member = self.members[number]
        self.clock.now += seconds
        for inserts in (*self.orphans, *(each.inserts for each in self.members)):
            inserts.run_started_before(self.clock.now - ATTEMPT_SECONDS)
        try:
            member.sink.turn()
        except CrashError:
            self.restart(number)

    @rule(number=st.integers(0, 1), times=st.integers(1, 12), seconds=st.sampled_from([0.3, 1.0]))
    def work(self, number: int, times: int, seconds: float) -> None:
        """Turns of which every insert is answered."""
        for _ in range(times):
            self.turn(number, seconds)
            while self.members[number].inserts.waiting:
                self.run_insert(number, 0, True)

    @rule(number=st.integers(0, 1), index=st.integers(0, 5), answered=st.booleans())
    def run_insert(self, number: int, index: int, answered: bool) -> None:
        inserts = self.members[number].inserts
        if inserts.waiting:
            inserts.run(index % len(inserts.waiting), answered=answered)

    @precondition(lambda self: any(orphan.waiting for orphan in self.orphans))
    @rule()
    def run_orphan(self) -> None:
        """An insert of a process that is gone was still on its way."""
        next(orphan for orphan in self.orphans if orphan.waiting).run()

    @rule(effects=st.integers(0, 3), after=st.booleans(), as_fault=st.booleans())
    def light(self, effects: int, after: bool, as_fault: bool) -> None:
        self.fuse.left, self.fuse.after, self.fuse.as_fault = effects, after, as_fault

    @rule(number=st.integers(0, 1))
    def kill(self, number: int) -> None:
        self.restart(number)

    @rule(split=st.sets(st.sampled_from(sorted(EVERYWHERE))))
    def rebalance(self, split: set[PartitionId]) -> None:
        # whoever loses partitions gives them up before the other is given them
        first, second = (member.records for member in self.members)
        first.assign(first.assigned & split)
        second.assign(second.assigned - split)
        first.assign(set(split))
        second.assign(EVERYWHERE - split)

    @rule(away=st.booleans())
    def leave_or_return(self, away: bool) -> None:
        self.warehouse.away = away

    @rule(refusing=st.booleans())
    def mend(self, refusing: bool) -> None:
        """ClickHouse changes its mind about bad rows (a migration, an upgrade); nothing is on its way then."""
        for inserts in (*self.orphans, *(member.inserts for member in self.members)):
            while inserts.waiting:
                inserts.run()
        self.refusing = refusing

    @rule(narrow=st.booleans())
    def make_room(self, narrow: bool) -> None:
        """Heavy rows go in for a while, those that are on their way as well."""
        self.narrow = narrow

    @rule(broken=st.sampled_from([None, "refuses", "fails", "resets"]))
    def break_table(self, broken: str | None) -> None:
        """Nothing goes in, whatever ClickHouse gives as the reason: it is no row's fault."""
        faults: dict[str, RowsRefusedError | WarehouseAwayError] = {
            "refuses": RowsRefusedError("a column is missing"),
            "fails": WarehouseAwayError("read-only", "242", answered=True),
            "resets": WarehouseAwayError("connection reset"),
        }
        self.warehouse.broken = faults.get(broken or "")

    @rule(number=st.integers(0, 1), rows=st.integers(1, 9))
    def change_settings(self, number: int, rows: int) -> None:
        self.restart(number, rows)

    def restart(self, number: int, rows: int = 4) -> None:
        old = self.members[number]
        places = old.records.assigned
        self.orphans.append(old.inserts)
        self.fuse.left = -1
        self.members[number] = self.member(rows)
        self.members[number].records.assign(places)

    @invariant()
    def nothing_went_in_twice(self) -> None:
        rows = Counter(value for _, value in self.warehouse.rows if value[:10] in HEADERS)
        assert all(times == 1 for times in rows.values()), rows

    def drain(self) -> None:
        """Whatever was written is in, or a dead letter, and the first member has all partitions."""
        self.fuse.left = -1
        self.warehouse.away, self.warehouse.broken = False, None
        for orphan in self.orphans:
            while orphan.waiting:
                orphan.run()
        self.rebalance(set(EVERYWHERE))
        for turns in range(3_000):
            # what had gone in while there was room cannot go in again without it
            self.narrow = self.narrow and turns < 300
            self.turn(0, 1.0)
            while self.members[0].inserts.waiting:
                self.run_insert(0, 0, True)
            if self.all_is_in():
                break
        assert self.all_is_in()

    def teardown(self) -> None:
        self.drain()
        stored = Counter(value for _, value in self.warehouse.rows)
        dead = set()
        for record in self.log.records.get(DEAD_PLACE, []):
            letter = avro.schemas()["DeadLetter"].decode(record.value or b"")
            place = PartitionId(letter["origin_topic"], letter["origin_partition"])
            dead.add((place, letter["origin_offset"], letter["value"]))
            # if it was written twice, the table's key keeps one; if it is refused, the topic has it
            assert stored[record.value or b""] > 0 or WORSE in letter["value"]
        for entry in self.written:
            value = entry[2]
            assert (stored[value] == 1) != (entry in dead), entry
            if ROUTES.table(value[:10]) is None:
                assert entry in dead
            elif not is_bad(value) and not is_heavy(value):
                assert stored[value] == 1

    def all_is_in(self) -> bool:
        commits = {
            place: self.log.commits.get(place) for place, end in self.log.ends.items() if end
        }
        return all(commit == (self.log.ends[place], "") for place, commit in commits.items())


TestSink = SinkMachine.TestCase
TestSink.settings = examples(150, stateful_step_count=60)
