"""Whose insert is attempted next, and of whom nothing more is read. Pure: time is told.

Events come first, because analysts wait for them. Partitions in trouble leave one of the inserts at
once to the others, those of bookkeeping another; and whoever has waited longest is next.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from enum import IntEnum

from services.core import topics
from services.sink.partition import Partition
from services.sink.ports import Insert, Place

# While the buffer is full, a partition whose range has been under way for so long is set aside: it is
# read no further until that is in, and what it holds counts apart, up to so many times the buffer.
SLOW_SECONDS = 5.0
BUFFERS_ASIDE = 4


def is_bookkeeping(place: Place) -> bool:
    """Whether its records are not events themselves."""
    return place.topic != topics.RESOLVED


class Turns:
    """Shares inserts at once between partitions. `attempts`: how many run at once."""

    def __init__(self, attempts: int) -> None:
        self._most = max(1, attempts - 1)  # of one kind other than events

    def of(
        self, partitions: Collection[Partition], free: int, now: float
    ) -> Iterator[tuple[Partition, Insert | None]]:
        """Yield who may begin now, with the insert; None: its next records are dead letters.

        `free`: so many inserts may begin, of which the last would wait for a thread.
        """
        running = Counter(_kind(p) for p in partitions if isinstance(p.under_way, Insert))
        for partition in sorted(filter(lambda p: _is_ready(p, now), partitions), key=_order):
            assert partition.range is not None
            insert, kind = partition.range.insert(), _kind(partition)
            if insert is None:
                yield partition, None
            elif kind is Kind.EVENTS and free > 0:
                free -= 1
                yield partition, insert
            elif kind is not Kind.EVENTS and free > 1 and running[kind] < self._most:
                free -= 1
                running[kind] += 1
                yield partition, insert


class Kind(IntEnum):
    """In the order in which they begin."""

    EVENTS = 0
    BOOKKEEPING = 1
    IN_TROUBLE = 2


def _kind(partition: Partition) -> Kind:
    if partition.in_trouble:
        return Kind.IN_TROUBLE
    return Kind.BOOKKEEPING if is_bookkeeping(partition.place) else Kind.EVENTS


def _order(partition: Partition) -> tuple[bool, float]:
    """Events first, then whoever has waited longest."""
    return _kind(partition) is not Kind.EVENTS, max(partition.retry_at, partition.begun_at)


def _is_ready(partition: Partition, now: float) -> bool:
    if partition.range is None or partition.under_way is not None or partition.retry_at > now:
        return False
    return partition.owed() is None


class ReadAhead:
    """Bounds what is read and not in yet. Whoever takes long fills nobody else's room."""

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
