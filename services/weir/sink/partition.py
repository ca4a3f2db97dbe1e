"""The sink's state of one partition: buffered records and the range being inserted. Pure: the time is an argument."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from weir.runtime.sink_ports import Columns, Commit, DeadRecord, Gain, Insert, PartitionId, Slice
from weir.sink.ranges import HEADER_BYTES, VERSION, InsertAttempt, Intent, read_intent
from weir.sink.step import Routes
from weir.sink.suspicion import Suspicion

# The most ClickHouse memory that one JSON object and one JSON value take, measured with distinct names inside
# arrays: see docs/decisions/0018-any-json.md.
OBJECT_BYTES = 400
VALUE_BYTES = 110
RECORD_BYTES = 150  # memory of a record in this process, in addition to its key and value
MAX_HEADERS = 20  # schemas in one range: each may need space in the commit's metadata


@dataclass(frozen=True)
class Limits:
    """The limits of a range. Records become a range as soon as they reach one limit.

    No range exceeds a limit, unless a single record does.
    """

    seconds: float
    rows: int
    bytes: int
    expanded_bytes: int = 1 << 62  # ClickHouse memory of the rows, by `expanded_size`


def expanded_size(value: bytes) -> int:
    """Return an upper estimate of a row's memory in ClickHouse. It counts JSON characters and does not parse them."""
    return len(value) + OBJECT_BYTES * value.count(b"{") + VALUE_BYTES * value.count(b",")


class Partition:
    """The records of one partition in order. The first of them may be in an `InsertAttempt`."""

    def __init__(self, gain: Gain, ended_by: float = 0.0) -> None:
        """`ended_by`: the time by which all inserts of the previous owner have ended."""
        self.place: PartitionId = gain.place
        self.topic_id = gain.topic_id
        self.start = gain.offset  # of the current or the next range; None: the topic's beginning
        self.confirmed = (gain.offset, gain.metadata)  # the last commit known to have succeeded
        self.position = gain.offset
        self.bytes = 0  # of the values of records that are not in a range yet
        self.held_bytes = 0  # memory of all records read and not yet inserted
        self._range_held_bytes = 0
        self.first_at = 0.0
        self.range: InsertAttempt | None = None
        self.begun_at = 0.0  # when the range was made
        self.aside = False  # read no more until the range is inserted, see `ReadBuffer`
        self.under_way: Insert | Sequence[DeadRecord] | None = None
        self.retry_at = 0.0
        self.failures = 0  # consecutive pauses, of the current insert or dead letters
        self.trouble = ""  # why the range waits for a retry; empty: it does not
        self.asked_at = 0.0  # when the latest examination began
        self.examine_next = False  # examine the insert next, instead of attempting it again
        self._repeat = read_intent(gain.metadata)
        # the previous owner may have inserted the intended range without receiving the answer
        self.suspicion = Suspicion(ended_by, unanswered=self.repeating)
        self._records = Columns([], [], [], [])

    def __len__(self) -> int:
        return len(self._records.offsets)

    @property
    def waiting(self) -> int:
        """The number of records read and not yet inserted."""
        return len(self) + (self.range.size if self.range is not None else 0)

    @property
    def in_trouble(self) -> bool:
        """Whether its inserts fail, or the search for the failing row is under way."""
        return self.failures > 0 or self.suspicion.blamed

    @property
    def repeating(self) -> bool:
        """Whether a range whose intent was committed before is being read again."""
        return self._repeat is not None

    def add(self, slice_: Slice, now: float) -> None:
        more = slice_.records
        if more.offsets and self.position is not None and more.offsets[0] < self.position:
            more = _after(more, self.position)  # read twice, for example after a lost connection
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
        """Return when a range is due; None: not before more records are read or the current range is finished."""
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
        """Make the next range from the records read: the range of the committed intent, if there is one."""
        intent = self._repeat
        if intent is None:
            rows = self._fitting(limits)
            end = self._records.offsets[rows - 1] + 1
            if rows == len(self) and self.position is not None:
                end = self.position  # past a transaction marker, which is not a record
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
        """Drop the completed range; the next range begins at its end."""
        assert self.range is not None
        self.start, self.range, self.aside = self.range.end, None, False
        self.held_bytes -= self._range_held_bytes
        self._range_held_bytes = 0
        self.suspicion.range_done()

    def owed(self) -> Commit | None:
        """Return the commit that must succeed before anything else is attempted; None if it already has."""
        if self._repeat is not None:
            return None  # the committed intent is still in force
        if self.range is not None:
            metadata = self.range.intent()
        else:
            metadata = ""
            if not self:
                self.start = self.position  # past a transaction marker
        if self.start is None or (self.start, metadata) == self.confirmed:
            return None
        return Commit(self.place, self.start, metadata)

    def _fitting(self, limits: Limits) -> int:
        """Return how many of the records fit into one range; at least one."""
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
    """Return the approximate memory of the records in this process, in bytes."""
    keys = sum([len(key) for key in records.keys])
    return _size(records) + keys + RECORD_BYTES * len(records.offsets)
