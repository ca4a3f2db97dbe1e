"""One partition as the sink holds it: what has been read, and the range that is on its way. Pure: time is told."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from weir.runtime.sink_ports import Columns, Commit, DeadRecord, Gain, Insert, Place, Slice
from weir.sink.ranges import HEADER_BYTES, VERSION, InsertAttempt, Intent, read_intent
from weir.sink.step import Routes
from weir.sink.suspicion import Suspicion

# What one object, and one value, takes in ClickHouse's memory at most, measured with names of their
# own inside arrays: see docs/decisions/0018-any-json.md.
OBJECT_BYTES = 400
VALUE_BYTES = 110
RECORD_BYTES = 150  # of a record in this process, besides its key and value
MAX_HEADERS = 20  # in one range: each may have a part of the commit's metadata


@dataclass(frozen=True)
class Limits:
    """When a partition's records become a range: the first of these, and never more than these."""

    seconds: float
    rows: int
    bytes: int
    expanded_bytes: int = 1 << 62  # what the rows take in ClickHouse's memory, by `expanded_size`


def expanded_size(value: bytes) -> int:
    """An upper estimate of what a row takes in ClickHouse's memory: its JSON is counted, not read."""
    return len(value) + OBJECT_BYTES * value.count(b"{") + VALUE_BYTES * value.count(b",")


class Partition:
    """Records in order, of which the first may be on their way as a `InsertAttempt`."""

    def __init__(self, gain: Gain, ended_by: float = 0.0) -> None:
        """`ended_by`: when whatever its last owner had under way has ended."""
        self.place: Place = gain.place
        self.topic_id = gain.topic_id
        self.start = gain.offset  # of the present range, or of the next; None: at the beginning
        self.confirmed = (gain.offset, gain.metadata)  # what the group is known to have committed
        self.position = gain.offset
        self.bytes = 0  # of the values of the records that no range has yet
        self.held_bytes = 0  # memory of everything that has been read and is not in
        self._range_held_bytes = 0
        self.first_at = 0.0
        self.range: InsertAttempt | None = None
        self.begun_at = 0.0  # the range
        self.aside = False  # read no further until the range is in, see `ReadBuffer`
        self.under_way: Insert | Sequence[DeadRecord] | None = None
        self.retry_at = 0.0
        self.failures = 0  # of the present insert
        self.trouble = ""  # why it waits
        self.asked_at = 0.0  # when the latest examination began
        self.examine_next = False  # rather than attempt the insert again
        self._repeat = read_intent(gain.metadata)
        # its last owner may have put the intended range in without hearing of it
        self.suspicion = Suspicion(ended_by, unanswered=self.repeating)
        self._records = Columns([], [], [], [])

    def __len__(self) -> int:
        return len(self._records.offsets)

    @property
    def waiting(self) -> int:
        """Records that have been read and are not in."""
        return len(self) + (self.range.size if self.range is not None else 0)

    @property
    def in_trouble(self) -> bool:
        """Its inserts fail, or it is looked for which of its rows makes them fail."""
        return self.failures > 0 or self.suspicion.blamed

    @property
    def repeating(self) -> bool:
        """A range that was intended before is being read again."""
        return self._repeat is not None

    def add(self, slice_: Slice, now: float) -> None:
        more = slice_.records
        if more.offsets and self.position is not None and more.offsets[0] < self.position:
            more = _after(more, self.position)  # read twice, as after a broken connection
        if more.offsets:
            if not self:
                self.first_at = now
            if self.start is None:
                self.start = more.offsets[0]
            self._records.offsets.extend(more.offsets)
            self._records.values.extend(more.values)
            self._records.keys.extend(more.keys)
            self._records.timestamps.extend(more.timestamps)
            self.bytes += _size(more)
            self.held_bytes += _memory(more)
        self.position = max(slice_.position, self.position or 0)

    def due_at(self, limits: Limits) -> float | None:
        """When a range is due; None: not before more has been read, or the present range is done."""
        if self.range is not None:
            return None
        if self._repeat is not None:
            return 0.0 if self.position is not None and self.position >= self._repeat.end else None
        if not self:
            return None
        if len(self) >= limits.rows or self.bytes >= limits.bytes:
            return 0.0
        return self.first_at + limits.seconds

    def begin(self, limits: Limits, routes: Routes, now: float) -> InsertAttempt:
        """Make the next range of what has been read: the one intended before, if there is one."""
        intent = self._repeat
        if intent is None:
            rows = self._fitting(limits)
            end = self._records.offsets[rows - 1] + 1
            if rows == len(self) and self.position is not None:
                end = self.position  # past a transaction's marker, which is no record
            intent = Intent(VERSION, end)
        else:
            rows = sum(offset < intent.end for offset in self._records.offsets)
        self._repeat, self.begun_at = None, now
        assert self.start is not None  # set by the first record at the latest
        self.range = InsertAttempt(
            self.place, self.topic_id, self.start, self._taken(rows), routes, intent
        )
        return self.range

    def finish(self) -> None:
        """The range is in: the next one begins where it ended."""
        assert self.range is not None
        self.start, self.range, self.aside = self.range.end, None, False
        self.held_bytes -= self._range_held_bytes
        self._range_held_bytes = 0
        self.suspicion.range_done()

    def owed(self) -> Commit | None:
        """The commit that must come before anything else is attempted; None: it is confirmed."""
        if self._repeat is not None:
            return None  # it stands as it was read
        if self.range is not None:
            metadata = self.range.intent()
        else:
            metadata = ""
            if not self:
                self.start = self.position  # past a transaction's marker
        if self.start is None or (self.start, metadata) == self.confirmed:
            return None
        return Commit(self.place, self.start, metadata)

    def _fitting(self, limits: Limits) -> int:
        """How many of the records one range may have; at least one."""
        size = expanded = 0
        headers: set[bytes] = set()
        for rows, value in enumerate(self._records.values[: limits.rows]):
            size += len(value or b"")
            expanded += expanded_size(value or b"")
            if rows and (size > limits.bytes or expanded > limits.expanded_bytes):
                return rows
            if value is not None and (header := value[:HEADER_BYTES]) not in headers:
                if len(headers) == MAX_HEADERS:
                    return rows
                headers.add(header)
        return min(len(self), limits.rows)

    def _taken(self, rows: int) -> Columns:
        offsets, values, keys, timestamps = self._records
        taken = Columns(offsets[:rows], values[:rows], keys[:rows], timestamps[:rows])
        for column in self._records:
            del column[:rows]
        self._range_held_bytes = _memory(taken)
        self.bytes -= _size(taken)
        return taken


def _after(records: Columns, offset: int) -> Columns:
    first = bisect_left(records.offsets, offset)
    offsets, values, keys, timestamps = records
    return Columns(offsets[first:], values[first:], keys[first:], timestamps[first:])


def _size(records: Columns) -> int:
    return sum([len(value) for value in records.values if value is not None])


def _memory(records: Columns) -> int:
    """About what the records take in this process."""
    keys = sum([len(key) for key in records.keys])
    return _size(records) + keys + RECORD_BYTES * len(records.offsets)
