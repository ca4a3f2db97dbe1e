"""Decide whose insert is next, and which partitions are read no further. Pure: time is told.

Events come first, because analysts wait for them. Partitions in trouble leave one of the inserts at
once to the others, those of bookkeeping another; and whoever has waited longest is next.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from enum import Enum, auto

from weir.core import topics
from weir.runtime.sink_ports import Insert, Place
from weir.sink.partition import Partition

# While the buffer is full, a partition whose range has been under way for so long is set aside: it is
# read no further until that is in, and what it holds counts apart, up to so many times the buffer.
SLOW_SECONDS = 5.0
BUFFERS_ASIDE = 4


def is_bookkeeping(place: Place) -> bool:
    """Whether its records are not events themselves."""
    return place.topic != topics.RESOLVED


class InsertScheduler:
    """Share the inserts that run at once between partitions. `attempts`: how many do."""

    def __init__(self, attempts: int) -> None:
        self._most = max(1, attempts - 1)  # of one priority other than events

    def next_inserts(
        self, partitions: Collection[Partition], free: int, now: float
    ) -> Iterator[tuple[Partition, Insert | None]]:
        """Yield each partition that may begin now, with its insert; None: its next records are dead letters.

        `free`: so many inserts may begin, of which the last would wait for a thread.
        """
        running = Counter(_priority(p) for p in partitions if isinstance(p.under_way, Insert))
        for partition in sorted(filter(lambda p: _is_ready(p, now), partitions), key=_order):
            assert partition.range is not None
            insert, priority = partition.range.insert(), _priority(partition)
            if insert is None:
                yield partition, None
            elif priority is InsertPriority.EVENTS and free > 0:
                free -= 1
                yield partition, insert
            elif (
                priority is not InsertPriority.EVENTS
                and free > 1
                and running[priority] < self._most
            ):
                free -= 1
                running[priority] += 1
                yield partition, insert


class InsertPriority(Enum):
    """Events may take every insert. Each of the others leaves one, see `InsertScheduler`."""

    EVENTS = auto()
    BOOKKEEPING = auto()
    IN_TROUBLE = auto()


def _priority(partition: Partition) -> InsertPriority:
    if partition.in_trouble:
        return InsertPriority.IN_TROUBLE
    return InsertPriority.BOOKKEEPING if is_bookkeeping(partition.place) else InsertPriority.EVENTS


def _order(partition: Partition) -> tuple[bool, float]:
    """Events first, then whoever has waited longest."""
    waits_since = max(partition.retry_at, partition.begun_at)
    return _priority(partition) is not InsertPriority.EVENTS, waits_since


def _is_ready(partition: Partition, now: float) -> bool:
    if partition.range is None or partition.under_way is not None or partition.retry_at > now:
        return False
    return partition.owed() is None


class ReadBuffer:
    """Bound what is read and not in yet, so that a slow partition fills nobody else's room."""

    def __init__(self, buffer_bytes: int) -> None:
        self._buffer = buffer_bytes
        self.is_full = False

    def held(
        self, partitions: Collection[Partition], now: float, draining: bool
    ) -> Collection[Place]:
        """Return the partitions of which nothing more is read for now."""
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
            # one that is read again has no range before its intended end has been read
            return {partition.place for partition in partitions if not partition.repeating}
        return aside
