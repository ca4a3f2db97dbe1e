"""Insert a range of one partition exactly once, despite refused rows and crashes. Pure.

The sink commits a range's start, with the *intent* in the commit's metadata, before it inserts anything.
After a crash, the next owner of the partition reads exactly that range again and repeats what the intent says;
ClickHouse drops the repeated inserts by their tokens. So the rule is: **never attempt what is not in the
committed intent.**

The records of one schema (a *group*) go in one insert. If ClickHouse refuses the insert, none of its rows are in
the table. Then the group is *narrowed*: its next window is the first half of the refused rows, and so on down to
one row; after a success the window doubles. A row that is refused alone becomes a dead letter, even
if ClickHouse would accept it the next time. Each such decision is committed before it is carried out.
"""

from bisect import bisect_left
from dataclasses import dataclass

import msgspec

from weir.runtime.sink_ports import Columns, DeadRecord, Insert, PartitionId
from weir.sink.step import PoisonReason, Routes

VERSION = 1
HEADER_BYTES = 10
# Kafka accepts 4,096 bytes of commit metadata.
MAX_DETAIL = 300


class Bisection(msgspec.Struct, array_like=True):
    """The window of a group, as offsets: records before `at` are settled, those from `at` to before `to` are next."""

    at: int
    to: int
    dead_reason: str = ""  # the reason why the next records are dead letters; empty: they are not
    detail: str = ""

    def mark_dead(self, verdict: PoisonReason) -> None:
        self.dead_reason, self.detail = verdict.reason, verdict.detail[:MAX_DETAIL]

    def verdict(self) -> PoisonReason:
        return PoisonReason(self.dead_reason, self.detail)


class Intent(msgspec.Struct):
    """The metadata of a commit: the exclusive end of the range, and narrowed groups by schema fingerprint (hex)."""

    v: int
    end: int
    groups: dict[str, Bisection] = {}


class ForeignIntentError(Exception):
    """The committed metadata cannot be read: most likely a newer version of Weir wrote it."""


def read_intent(metadata: str) -> Intent | None:
    """Decode the intent of a commit; None if it has none. `ForeignIntentError` if it cannot be read."""
    if not metadata:
        return None
    try:
        intent = msgspec.json.decode(metadata, type=Intent)
    except msgspec.DecodeError as fault:
        raise ForeignIntentError(f"commit metadata {metadata[:200]!r}: {fault}") from None
    if intent.v != VERSION:
        raise ForeignIntentError(f"commit metadata of version {intent.v}, not {VERSION}")
    return intent


@dataclass
class _Group:
    header: bytes
    offsets: list[int]
    values: list[bytes]
    window: Bisection
    narrowed: bool = False
    rows: int = 0  # of the latest attempt

    def span(self) -> tuple[int, int]:
        """Return the window's records as (first index, exclusive last index)."""
        return bisect_left(self.offsets, self.window.at), bisect_left(self.offsets, self.window.to)


class InsertAttempt:
    """One contiguous range of a partition that is being inserted into ClickHouse."""

    def __init__(
        self,
        place: PartitionId,
        topic_id: str,
        start: int,
        records: Columns,
        routes: Routes,
        intent: Intent,
    ) -> None:
        self.place = place
        self.start = start
        self.end = intent.end
        self.size = len(records.offsets)
        self.newest = records.timestamps[-1] if records.timestamps else 0  # epoch milliseconds
        self._token = f"{place.topic}:{topic_id}:{place.partition}"
        self._records = records
        self._routes = routes
        self._groups = self._grouped(intent)

    @property
    def done(self) -> bool:
        """Whether every record is inserted, written as a dead letter, or a tombstone."""
        return self._next() is None

    def intent(self) -> str:
        """Return the metadata to commit at `start` before the result of `insert` or `dead_records` is carried out."""
        self._next()
        groups = {_name(g.header): g.window for g in self._groups if g.narrowed}
        return msgspec.json.encode(Intent(VERSION, self.end, groups)).decode()

    def insert(self) -> Insert | None:
        """Return the next insert; None if there is none, but `dead_records` may be left."""
        group = self._next()
        if group is None or group.window.dead_reason:
            return None
        first, last = group.span()
        group.rows = last - first
        window, whole = group.window, last - first == len(group.values)
        return Insert(
            self._routes.table(group.header) or "",
            group.header,
            group.values if whole else group.values[first:last],
            f"{self._token}:{window.at}-{window.to}:{_name(group.header)}",
        )

    def dead_records(self) -> list[DeadRecord]:
        """Return the records to write next as dead letters; empty if an insert is next."""
        group = self._next()
        if group is None or not group.window.dead_reason:
            return []
        offsets, window = self._records.offsets, group.window
        dead = []
        for index in range(*group.span()):
            at = bisect_left(offsets, group.offsets[index])
            key, timestamp = self._records.keys[at], self._records.timestamps[at]
            record = DeadRecord(
                self.place, offsets[at], key, group.values[index], timestamp, *window.verdict()
            )
            dead.append(record)
        return dead

    def settled(self) -> None:
        """Move past the current window: its records are inserted or written as dead letters."""
        group = self._next()
        if group is None:
            return
        rows = 1 if group.window.dead_reason else 2 * group.rows
        group.window = Bisection(group.window.to, self.end)
        if group.narrowed:
            first, _ = group.span()
            self._aim(group, first + rows)

    def refused(self, verdict: PoisonReason) -> None:
        """Halve the window, or mark its only row dead: ClickHouse refused the insert, and none of its rows are in."""
        group = self._next()
        if group is None:
            return
        group.narrowed = True
        first, last = group.span()
        if last - first > 1:
            self._aim(group, first + (last - first) // 2)
        else:
            group.window.mark_dead(verdict)

    def _next(self) -> _Group | None:
        """Return the first unsettled group, with its window moved to existing records; None if all are settled."""
        for group in self._groups:
            first, last = group.span()
            if first == len(group.offsets):
                continue
            if first == last:  # compaction has removed all records of the window since its commit
                group.window = Bisection(group.window.to, self.end)
            if not group.window.dead_reason and self._routes.table(group.header) is None:
                group.narrowed = True
                group.window.mark_dead(self._routes.verdict(group.header))
            return group
        return None

    def _aim(self, group: _Group, last: int) -> None:
        """End the group's window before the record at index `last`."""
        to = group.offsets[last] if last < len(group.offsets) else self.end
        group.window = Bisection(group.window.at, to)

    def _grouped(self, intent: Intent) -> list[_Group]:
        offsets, values = self._records.offsets, self._records.values
        header = (values[0] or b"")[:HEADER_BYTES] if values else b""
        alike = [value for value in values if value and value.startswith(header)]
        if len(header) == HEADER_BYTES and len(alike) == len(values):
            return [self._group(header, offsets, alike, intent)]  # nearly always
        by_header: dict[bytes, tuple[list[int], list[bytes]]] = {}
        for offset, value in zip(offsets, values, strict=True):
            if value is None:
                continue  # a tombstone: ClickHouse keeps the history
            column = by_header.get(value[:HEADER_BYTES])
            if column is None:
                column = by_header[value[:HEADER_BYTES]] = ([], [])
            column[0].append(offset)
            column[1].append(value)
        return [self._group(h, own, rows, intent) for h, (own, rows) in by_header.items()]

    def _group(
        self, header: bytes, offsets: list[int], values: list[bytes], intent: Intent
    ) -> _Group:
        known = intent.groups.get(_name(header))
        window = Bisection(self.start, self.end) if known is None else known
        return _Group(header, offsets, values, window, narrowed=known is not None)


def _name(header: bytes) -> str:
    return header[2:].hex()
