"""The scheduler picks the next inserts; the read buffer pauses partitions while it is full."""

import pytest

from weir.adapters import avro
from weir.core import topics
from weir.runtime.sink_ports import Columns, Gain, Insert, PartitionId, Slice
from weir.sink.partition import Limits, Partition
from weir.sink.scheduling import OVERDUE_SECONDS, SLOW_SECONDS, InsertScheduler, ReadBuffer
from weir.sink.step import Routes

ROUTES = Routes(avro.name_of)
LIMITS = Limits(0.0, 100, 10_000)
EVENT, SIDE = (avro.schemas()[name].header for name in ("Resolved", "Profile"))
BUFFER = 1_000


def partition(
    topic: str, number: int, begun_at: float = 0.0, *, trouble: bool = False, size: int = 10
) -> Partition:
    """One whose range is committed and ready to go in."""
    made = filled(topic, number, size)
    made.begin(LIMITS, ROUTES, begun_at)
    owed = made.owed()
    assert owed is not None
    made.confirmed = (owed.offset, owed.metadata)
    made.failures = int(trouble)
    return made


def filled(topic: str, number: int, size: int, metadata: str = "") -> Partition:
    made = Partition(Gain(PartitionId(topic, number), "id", 0, metadata))
    header = EVENT if topic == topics.RESOLVED else SIDE
    records = Columns([0], [header + bytes(size)], [b"k"], [0])
    made.add(Slice(made.place, records, 1), 0.0)
    return made


def next_of(
    partitions: list[Partition], attempts: int, free: int, now: float = 10.0
) -> list[PartitionId]:
    begun = InsertScheduler(attempts).next_inserts(partitions, free, now)
    return [one.place for one, insert in begun if insert is not None]


def run(one: Partition) -> Partition:
    assert one.range is not None
    one.under_way = one.range.insert()
    assert isinstance(one.under_way, Insert)
    return one


def test_inserts_of_events_come_first_and_may_take_every_free_slot() -> None:
    side = partition("profiles", 0)
    events = [partition(topics.RESOLVED, number, 5.0) for number in range(3)]
    assert next_of([side, *events], attempts=2, free=3) == [one.place for one in events]
    assert next_of([side, events[0]], attempts=2, free=3) == [events[0].place, side.place]


@pytest.mark.parametrize("attempts", [1, 2, 8])
def test_overdue_bookkeeping_and_trouble_get_an_insert_while_events_keep_all_busy(
    attempts: int,
) -> None:
    """The only free insert goes to whatever is overdue and has waited longest."""
    now = 100.0
    due = now - OVERDUE_SECONDS
    busy = [run(partition(topics.RESOLVED, n, now)) for n in range(attempts)]
    busy += [partition(topics.RESOLVED, n, now) for n in range(50, 60)]
    for late in (
        partition("profiles", 0, due - 1),
        partition(topics.RESOLVED, 9, due - 1, trouble=True),
    ):
        assert next_of([*busy, late], attempts, 1, now) == [late.place]
    soon = partition("profiles", 0, due + 1)
    assert next_of([*busy, soon], attempts, 1, now) == [busy[attempts].place]
    older = partition(topics.RESOLVED, 7, due - 2)  # no kind starves the other
    late = partition("profiles", 0, due - 1)
    assert next_of([*busy, late, older], attempts, 1, now) == [older.place]


def test_failing_partitions_and_side_tables_get_one_insert_slot_each() -> None:
    bad = [partition(topics.RESOLVED, number, trouble=True) for number in range(2)]
    sides = [partition("profiles", number) for number in range(2)]
    assert next_of([*bad, *sides], attempts=2, free=3) == [bad[0].place, sides[0].place]
    running = run(bad[0])
    good = partition(topics.RESOLVED, 7)
    assert next_of([running, bad[1], good], attempts=2, free=2) == [good.place]
    assert next_of([running, bad[1]], attempts=3, free=2) == [bad[1].place]


def test_a_failing_partition_gets_a_turn_when_there_is_only_one_insert_slot() -> None:
    assert next_of([partition("profiles", 0, trouble=True)], attempts=1, free=2)


def test_the_partition_that_has_waited_longest_is_next() -> None:
    """A failing partition retries after a pause and does not overtake those already waiting."""
    early, late = (partition("profiles", number, trouble=True) for number in range(2))
    early.retry_at, late.retry_at = 3.0, 4.0
    assert next_of([late, early], attempts=2, free=3) == [early.place]
    early.retry_at = 5.0
    assert next_of([late, early], attempts=2, free=3) == [late.place]


def test_writing_dead_letters_takes_no_insert_slot() -> None:
    writing = partition(topics.RESOLVED, 0, trouble=True)
    writing.under_way = []
    other = partition(topics.RESOLVED, 1, trouble=True)
    assert next_of([writing, other], attempts=2, free=3) == [other.place]


def test_a_full_buffer_pauses_all_partitions_until_it_is_under_half_full() -> None:
    buffer = ReadBuffer(BUFFER)
    large = partition(topics.RESOLVED, 0, size=BUFFER)
    small = filled(topics.RESOLVED, 1, 10)
    assert set(buffer.held([large, small], 0.0, False)) == {large.place, small.place}
    large.finish()
    assert not buffer.held([large, small], 0.0, False)


def test_only_the_slow_partition_stays_paused_when_it_fills_the_buffer() -> None:
    buffer = ReadBuffer(BUFFER)
    slow, other = partition(topics.RESOLVED, 0, size=BUFFER), filled(topics.RESOLVED, 1, 10)
    buffer.held([slow, other], 0.0, False)
    assert set(buffer.held([slow, other], SLOW_SECONDS + 1, False)) == {slow.place}
    slow.finish()
    assert not buffer.held([slow, other], SLOW_SECONDS + 2, False)


def test_a_range_being_reread_is_read_to_its_end_despite_a_full_buffer() -> None:
    """It has no range until it is read to its end, so reading on is the only way to make room."""
    buffer = ReadBuffer(BUFFER)
    again = filled(topics.RESOLVED, 0, 2 * BUFFER, '{"v":1,"end":9,"groups":{}}')
    other = partition(topics.RESOLVED, 1)
    assert again.place not in buffer.held([again, other], 0.0, False)
    other.finish()
    assert not buffer.held([again, other], 0.0, False)
    assert set(buffer.held([again, other], 0.0, True)) == {again.place, other.place}


def test_keys_and_tombstones_count_towards_the_buffer() -> None:
    one = Partition(Gain(PartitionId("profiles", 0), "id", 0, ""))
    one.add(Slice(one.place, Columns([0], [None], [bytes(500)], [0]), 1), 0.0)
    assert one.held_bytes > 500


def test_a_range_has_few_schemas_so_that_its_commit_stays_small() -> None:
    one = Partition(Gain(PartitionId("profiles", 0), "id", 0, ""))
    lines = [b"%010d" % number for number in range(200)]
    one.add(
        Slice(one.place, Columns(list(range(200)), list(lines), [b""] * 200, [0] * 200), 200), 0.0
    )
    range_ = one.begin(Limits(0.0, 1_000, 1 << 20), ROUTES, 0.0)
    for _ in range(range_.size):
        assert len(range_.intent()) < 4_096
        assert range_.insert() is None
        range_.settled()
    assert range_.done
    assert range_.end < 200
