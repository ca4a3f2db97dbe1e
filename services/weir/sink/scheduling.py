"""Decide which partition inserts next, and which partitions to pause reading. Pure: the time is an argument.

Events come first, because analysts wait for them; but whatever has waited for more than OVERDUE_SECONDS goes before
all that has waited less, so that no kind starves while another one keeps every insert busy. Partitions in trouble
use at most all but one of the concurrent inserts, and so do bookkeeping partitions; each of the two kinds may use
at least one. After that, the partition that has waited longest is next.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from enum import Enum, auto

from weir.core import topics
from weir.runtime.sink_ports import Insert, PartitionId
from weir.sink.partition import Partition

# While the buffer is full, a partition whose range takes longer than SLOW_SECONDS is set aside: it is not read
# until the range is inserted. Its memory does not count against the buffer, but against a separate limit of
# BUFFERS_ASIDE times the buffer.
SLOW_SECONDS = 5.0
OVERDUE_SECONDS = 10.0
BUFFERS_ASIDE = 4


def is_bookkeeping(place: PartitionId) -> bool:
    """Check whether a partition holds records other than resolved events."""
    return place.topic != topics.RESOLVED


class InsertScheduler:
    """Shares the concurrent inserts between partitions. `attempts`: how many inserts run at once."""

    def __init__(self, attempts: int) -> None:
        self._most = max(1, attempts - 1)  # inserts at once of one priority other than events

    def next_inserts(
        self, partitions: Collection[Partition], free: int, now: float
    ) -> Iterator[tuple[Partition, Insert | None]]:
        """Yield (partition, insert) for each partition that may begin now; insert None: dead letters are next.

        `free`: how many inserts may begin; the last of them would wait for a thread.
        """
        running = Counter(_priority(p) for p in partitions if isinstance(p.under_way, Insert))
        ready = [partition for partition in partitions if _is_ready(partition, now)]
        for partition in sorted(ready, key=lambda partition: _order(partition, now)):
            assert partition.range is not None
            insert, priority = partition.range.insert(), _priority(partition)
            if insert is None:
                yield partition, None
            elif priority is InsertPriority.EVENTS and free > 0:
                free -= 1
                yield partition, insert
            elif (
                priority is not InsertPriority.EVENTS
                and free > (0 if is_overdue(partition, now) else 1)
                and running[priority] < self._most
            ):
                free -= 1
                running[priority] += 1
                yield partition, insert


class InsertPriority(Enum):
    """Who may use how many inserts: events all of them, each other priority all but one (but at least one)."""

    EVENTS = auto()
    BOOKKEEPING = auto()
    IN_TROUBLE = auto()


def _priority(partition: Partition) -> InsertPriority:
    if partition.in_trouble:
        return InsertPriority.IN_TROUBLE
    return InsertPriority.BOOKKEEPING if is_bookkeeping(partition.place) else InsertPriority.EVENTS


def is_overdue(partition: Partition, now: float) -> bool:
    """Check whether a partition that could insert has waited for so long that it goes first."""
    return now - _waits_since(partition) > OVERDUE_SECONDS


def _waits_since(partition: Partition) -> float:
    return max(partition.retry_at, partition.begun_at)


def _order(partition: Partition, now: float) -> tuple[bool, bool, float]:
    """Return the sort key: who is overdue, then events, then the partition that has waited longest."""
    overdue = is_overdue(partition, now)
    is_event = _priority(partition) is InsertPriority.EVENTS
    return not overdue, not overdue and not is_event, _waits_since(partition)


def _is_ready(partition: Partition, now: float) -> bool:
    if partition.range is None or partition.under_way is not None or partition.retry_at > now:
        return False
    return partition.owed() is None


class ReadBuffer:
    """Bounds the records read and not yet inserted, so that a slow partition does not use up the others' space."""

    def __init__(self, buffer_bytes: int) -> None:
        self._buffer = buffer_bytes
        self.is_full = False

    def held(
        self, partitions: Collection[Partition], now: float, draining: bool
    ) -> Collection[PartitionId]:
        """Return the partitions that are not to be read for now."""
        aside, room = set(), BUFFERS_ASIDE * self._buffer
        size = 0
        for partition in partitions:
            if self.is_full and partition.range and now - partition.begun_at > SLOW_SECONDS:
                partition.aside = True
            if partition.aside and partition.held_bytes <= room:
                aside.add(partition.place)
                room -= partition.held_bytes
            else:
                size += partition.held_bytes
        some_can_go_in = any(p.range and p.place not in aside for p in partitions)
        self.is_full = some_can_go_in and (
            size >= self._buffer or (self.is_full and size >= self._buffer // 2)
        )
        if draining:
            return {partition.place for partition in partitions}
        if self.is_full:
            # a partition that is being read again must be read to its intended end before it can have a range
            return {partition.place for partition in partitions if not partition.repeating}
        return aside
