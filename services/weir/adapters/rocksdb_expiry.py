"""Delete expired entries of a store, a few with every write, so that its size stays bounded."""

import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

from weir.core.batch import Changes

# The store's internal keys start with a zero byte. The sweep begins after them.
FIRST_KEY = b"\1"
CURSOR_KEY = b"\0swept"
TIME_BYTES = 8
# Entries to look at for each written entry. With 2, a sweep over a store of n entries ends before n/2
# more are written: the store never holds more than 1.5 times what must be kept.
SWEPT_PER_ENTRY = 2

# Returns all entries from a key on, in key order.
Scan = Callable[[bytes], Iterable[tuple[bytes, bytes]]]


class Swept(NamedTuple):
    """The keys to delete, and the key at which the next sweep begins."""

    outdated: list[bytes]
    cursor: bytes


class Sweeper:
    """Sweeps one store repeatedly in key order. Not thread-safe.

    A value ends with a time: `TIME_BYTES` bytes, big-endian, epoch milliseconds. An entry expires
    `kept_ms` after that time. The current time is the latest time among the written entries, because
    after a stop of several days the events from before it still have to be decided. It is never later
    than this machine's clock, so that a record with a time in the future expires nothing.
    """

    def __init__(
        self,
        scan: Scan,
        kept_ms: int,
        cursor: bytes | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`cursor`: where an earlier sweep of the store ended; None: there was none."""
        self._scan = scan
        self._kept_ms = kept_ms
        self._clock = clock
        self._latest = bytes(TIME_BYTES)  # latest time written since the store was opened
        self._cursor = cursor or FIRST_KEY

    def sweep(self, written: Changes) -> Swept:
        """Return the keys to delete in the same write as `written`; no key of `written` is among them."""
        times = [value[-TIME_BYTES:] for value in written.values() if value is not None]
        if not times:
            return Swept([], self._cursor)
        self._latest = max(self._latest, *times)
        now_ms = min(int.from_bytes(self._latest), int(self._clock() * 1000))
        before = max(0, now_ms - self._kept_ms).to_bytes(TIME_BYTES)
        wanted = SWEPT_PER_ENTRY * len(times)
        entries = list(islice(self._scan(self._cursor), wanted))
        # times are compared as bytes: converting those of two entries per event would cost too much
        outdated = [key for key, value in entries if value[-TIME_BYTES:] < before]
        self._cursor = entries[-1][0] + b"\0" if len(entries) == wanted else FIRST_KEY
        return Swept([key for key in outdated if key not in written], self._cursor)
