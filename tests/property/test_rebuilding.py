"""A rebuild leaves every event in ClickHouse once and no dead one, whatever is lost or interrupted."""

import uuid
from collections.abc import Collection, Iterator
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import NOON, accepted
from tests.support.records import resolved
from weir.adapters import avro
from weir.adapters.memory_sink import MemoryWarehouse
from weir.backfill.present import EventKey
from weir.backfill.rebuild import EventRange, RebuildCounts, Rebuilder
from weir.backfill.settled_reader import Chunk, OffsetRange
from weir.core import topics
from weir.redelivery.replay import Pace
from weir.runtime.sink_ports import Columns, Insert, PartitionId, RowsRefusedError
from weir.sink.step import Routes

ROUTES = Routes(avro.name_of)
PLACE = PartitionId(topics.RESOLVED, 0)
SIZE = 5
ALL = EventRange(0)
READER = avro.PrefixReader("Resolved", "event_id")


def event_id(value: bytes) -> uuid.UUID:
    return uuid.UUID(bytes=READER.read(value)["event_id"])


class CrashError(Exception):
    """The process ends here."""


class Engine:
    """A twin of ClickHouse with what is asked of it: rows, tokens, dead letters."""

    def __init__(self, dead: set[int], bad: set[bytes]) -> None:
        self.warehouse = MemoryWarehouse(lambda value: value in bad)
        self.dead = dead
        self.crash_in = -1
        self.late: list[Insert] = []  # under way when the process ended

    def insert(self, insert: Insert) -> None:
        self.crash_in -= 1
        if self.crash_in == 0:
            self.late.append(insert)
            raise CrashError
        self.warehouse.insert(insert)

    def ids(self) -> list[uuid.UUID]:
        return [event_id(value) for _, value in self.warehouse.rows]

    def present(self, events: Collection[EventKey]) -> set[uuid.UUID]:
        return {event.event_id for event in events} & set(self.ids())

    def barred(self, place: PartitionId, chunk: Chunk) -> set[int]:
        return {at for at in self.dead if chunk.start <= at < chunk.end}

    def standing(self, place: PartitionId, chunk: Chunk) -> set[int]:
        return set()


def chunks(values: list[bytes]) -> Iterator[Chunk]:
    for start in range(0, len(values), SIZE):
        offsets = list(range(start, min(start + SIZE, len(values))))
        part = [values[at] for at in offsets]
        columns = Columns(offsets, list(part), [b""] * len(part), [NOON] * len(part))
        yield Chunk(start, start + SIZE, columns)


def rebuild(engine: Engine, values: list[bytes], part: EventRange = ALL) -> RebuildCounts:
    rebuilding = Rebuilder(engine, engine, ROUTES, Pace(0), dry_run=False)
    span = OffsetRange(PLACE, "id", 0, len(values))
    account = RebuildCounts()
    for chunk in chunks(values):
        rebuilding.put_events(span, chunk, part, account)
    return account


numbers = st.integers(0, 22)


@given(
    count=st.integers(1, 23),
    there=st.sets(numbers),
    dead=st.sets(numbers, max_size=4),
    bad=st.sets(numbers, max_size=3),
    crashes=st.lists(st.integers(1, 8), max_size=3),
    lands=st.booleans(),
    lost_again=st.booleans(),
)
def test_a_rebuild_stores_each_event_once_after_losses_refusals_and_crashes(
    count: int,
    there: set[int],
    dead: set[int],
    bad: set[int],
    crashes: list[int],
    lands: bool,
    lost_again: bool,
) -> None:
    values = [resolved(number) for number in range(count)]
    engine = Engine(dead, {values[at] for at in bad if at < count})
    engine.warehouse.rows = [
        ("landing_events", values[at]) for at in sorted(there - dead - bad) if at < count
    ]
    for crash in crashes:
        engine.crash_in = crash
        with suppress(CrashError):
            rebuild(engine, values)
        engine.crash_in = -1
        if lost_again:
            engine.warehouse.rows.clear()
    late = engine.late if lands and not lost_again else []
    for insert in late[-1:]:
        if not set(map(event_id, insert.values)) & set(engine.ids()):
            with suppress(RowsRefusedError):
                engine.warehouse.insert(insert)
    account = rebuild(engine, values)
    expected = {event_id(values[at]) for at in range(count) if at not in dead | bad}
    assert sorted(engine.ids()) == sorted(expected)
    assert account.there + account.put_back == len(expected)
    assert account.refused == len({at for at in bad - dead if at < count})
    assert rebuild(engine, values).put_back == 0


def test_a_late_insert_of_an_earlier_run_counts_once() -> None:
    """The earlier run's insert completes after this run's check and before this run's insert."""
    values = [resolved(number) for number in range(SIZE)]
    engine = Engine(set(), set())
    engine.crash_in = 1
    with suppress(CrashError):
        rebuild(engine, values)
    asked: list[set[uuid.UUID]] = []
    present = engine.present

    def late(events: Collection[EventKey]) -> set[uuid.UUID]:
        found = present(events)
        if not asked:
            engine.warehouse.insert(engine.late[0])  # after the question, before the insert
        asked.append(found)
        return found

    engine.present = late  # type: ignore[method-assign]
    rebuild(engine, values)
    assert len(engine.ids()) == SIZE


def test_a_rebuild_restores_only_the_chosen_source_and_time_range() -> None:
    values = [
        resolved(n, received_at=NOON + n, source="shop" if n % 2 else "blog") for n in range(9)
    ]
    engine = Engine(set(), set())
    rebuild(engine, values, EventRange(NOON + 2, NOON + 7, "shop"))
    assert engine.ids() == [uuid.UUID(bytes=accepted(n)["event_id"]) for n in (3, 5)]


def test_a_rebuild_does_not_restore_a_person_erased_while_it_runs() -> None:
    """Rows that an erasure deletes between two queries look like lost ones, but are barred."""
    values = [resolved(number) for number in range(SIZE)]
    engine = Engine(set(), set())
    present = engine.present

    def erasing(events: Collection[EventKey]) -> set[uuid.UUID]:
        engine.dead = {1, 3}  # it says whom it bars, and then deletes
        return present(events)

    # of this one engine: the erasure comes between its answer and what follows from it
    engine.present = erasing  # type: ignore[method-assign]
    account = rebuild(engine, values)
    assert (account.put_back, account.barred) == (3, 2)
    assert {event_id(values[at]) for at in (0, 2, 4)} == set(engine.ids())
