"""A partition of the sink: when a range is due, where it ends and what is committed when."""

from weir.runtime.sink_ports import Columns, Commit, Gain, PartitionId, Slice
from weir.sink.partition import Limits, Partition
from weir.sink.step import Routes

PLACE = PartitionId("events.resolved", 0)
HEADER = b"\xc3\x01" + b"r" * 8
ROUTES = Routes({HEADER: "Resolved"}.get)
LIMITS = Limits(seconds=0.5, rows=4, bytes=1_000)


def records(first: int, count: int, size: int = 20) -> Columns:
    offsets = list(range(first, first + count))
    return Columns(offsets, [HEADER.ljust(size, b".")] * count, [b""] * count, [0] * count)


def partition(offset: int | None = 0, metadata: str = "") -> Partition:
    return Partition(Gain(PLACE, "id", offset, metadata))


def add(
    to: Partition, first: int, count: int, position: int, now: float = 0, size: int = 20
) -> None:
    to.add(Slice(PLACE, records(first, count, size), position), now)


def test_a_range_is_due_by_age_rows_or_bytes() -> None:
    one = partition()
    assert one.due_at(LIMITS) is None
    add(one, 0, 1, 1, now=7.0)
    assert one.due_at(LIMITS) == 7.5
    add(one, 1, 3, 4, now=7.1)
    assert one.due_at(LIMITS) == 0.0
    large = partition()
    add(large, 0, 1, 1, now=7.0, size=1_000)
    assert large.due_at(LIMITS) == 0.0


def test_a_range_takes_records_up_to_its_limits_and_at_least_one() -> None:
    one = partition()
    add(one, 0, 6, 6)
    assert one.begin(LIMITS, ROUTES, 0.0).end == 4
    one.finish()
    assert (len(one), one.start) == (2, 4)
    large = partition()
    add(large, 0, 3, 3, size=5_000)
    assert large.begin(LIMITS, ROUTES, 0.0).end == 1
    two = partition()
    add(two, 0, 3, 3, size=400)
    assert two.begin(LIMITS, ROUTES, 0.0).end == 2


def test_a_range_ends_after_the_transaction_marker() -> None:
    one = partition()
    add(one, 0, 3, 4)
    assert one.begin(LIMITS, ROUTES, 0.0).end == 4


def test_a_commit_is_due_before_and_after_each_range() -> None:
    one = partition(offset=None)
    assert one.owed() is None
    add(one, 5, 2, 8)
    one.begin(LIMITS, ROUTES, 0.0)
    first = one.owed()
    assert first == Commit(PLACE, 5, '{"v":1,"end":8,"groups":{}}')
    one.confirmed = (first.offset, first.metadata)
    assert one.owed() is None
    one.finish()
    assert one.owed() == Commit(PLACE, 8, "")


def test_a_committed_range_is_reread_to_its_end_regardless_of_the_limits() -> None:
    one = partition(5, '{"v":1,"end":12,"groups":{}}')
    add(one, 5, 6, 11)
    assert one.due_at(LIMITS) is None
    assert one.owed() is None
    add(one, 11, 3, 14)
    assert one.due_at(LIMITS) == 0.0
    range_ = one.begin(LIMITS, ROUTES, 0.0)
    assert (range_.start, range_.end, range_.size) == (5, 12, 7)
    assert one.owed() is None  # it is committed already
    assert len(one) == 2


def test_records_read_twice_are_kept_once() -> None:
    one = partition()
    add(one, 0, 3, 3)
    add(one, 1, 4, 5)
    assert len(one) == 5
