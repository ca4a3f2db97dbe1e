"""Data types between a worker's loop and its step: input batches and batch results. Plain values."""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

MINUTE_MS = 60_000

State = dict[bytes, bytes]
SizesAndIds = tuple[list[int], list[bytes]]  # of the events of one source, minute and outcome
Changes = Mapping[bytes, bytes | None]  # None deletes
Load = Callable[[Iterable[bytes]], State]


@dataclass(slots=True, frozen=True)
class Batch:
    """Records of one partition in offset order, stored as columns (cheaper than one object for each record)."""

    topic: str
    partition: int
    offsets: list[int]
    timestamps: list[int]
    keys: list[bytes]
    values: list[bytes]
    topic_id: str = ""  # changes when the topic is deleted and created again; empty: unknown

    @property
    def position(self) -> int:
        """The offset after the last record of the batch."""
        return self.offsets[-1] + 1

    def __len__(self) -> int:
        return len(self.offsets)

    def part(self, first: int, end: int) -> "Batch":
        """Return the records at indexes `first` to `end` (exclusive) of the batch."""
        return Batch(
            self.topic,
            self.partition,
            self.offsets[first:end],
            self.timestamps[first:end],
            self.keys[first:end],
            self.values[first:end],
            self.topic_id,
        )

    def since(self, offset: int) -> "Batch":
        """Return the records from `offset` on. Usually that is all of them, and then nothing is copied."""
        if not self.offsets or self.offsets[0] >= offset:
            return self
        return self.part(bisect_left(self.offsets, offset), len(self))


class Output(NamedTuple):
    """A record to write. An empty value is written as null: in a compacted topic it is the key's tombstone."""

    key: bytes
    value: bytes


class RefusedRecord(NamedTuple):
    """The record at index `at` of the batch cannot be processed; it is written to `events.dead` unchanged."""

    at: int
    reason: str
    detail: str
    source: str = ""
    received_at: int = 0
    event_id: bytes | None = None


# (source, minute of receipt in epoch milliseconds, outcome)
UsageKey = tuple[str, int, str]


def id_checksum(ids: Sequence[bytes]) -> int:
    """Return the sum of the random half (bytes 8 to 15, as a number) of each event id.

    It identifies a set of events in any order. All ids have the same length: 16 bytes plus a multiple
    of 8. It uses an array because a loop takes twice as long and this runs for every event.
    """
    halves = array("Q", b"".join(ids))
    stride = len(halves) // len(ids) if ids else 1
    halves = halves[1::stride]
    if sys.byteorder == "little":
        halves.byteswap()
    return sum(halves)


@dataclass(slots=True)
class Count:
    events: int = 0
    bytes: int = 0
    id_checksum: int = 0  # over the events whose id could be read
    seconds: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Usage:
    """The outcomes of a batch, for the books: counts by source, minute of receipt and outcome."""

    counts: dict[UsageKey, Count] = field(default_factory=dict)

    def add(
        self,
        source: str,
        received_at: int,
        outcome: str,
        events: int,
        size: int,
        id_checksum: int = 0,
    ) -> Count:
        place = (source, received_at - received_at % MINUTE_MS, outcome)
        count = self.counts.get(place)
        if count is None:
            count = self.counts[place] = Count()
        count.events += events
        count.bytes += size
        count.id_checksum += id_checksum
        return count

    def add_second(self, source: str, second: int, outcome: str, events: int, size: int) -> None:
        """Count as `add` does, and also by second (`second` in epoch seconds), for peak rates."""
        seconds = self.add(source, second * 1000, outcome, events, size).seconds
        seconds[second % 60] = seconds.get(second % 60, 0) + events


@dataclass(slots=True)
class BatchResult:
    """Everything that a batch results in. The worker writes it in one transaction, then applies the state changes.

    Every record of the batch is either emitted, dropped (on purpose), refused (a dead letter) or
    forwarded to another key of the same topic: the four counts add up to the length of the batch.
    """

    outputs: dict[str, list[Output]] = field(default_factory=dict)
    # outputs for the partition with the batch's own number
    beside: dict[str, list[Output]] = field(default_factory=dict)
    # keys whose state is deleted, unless `changes` sets it again
    forgotten: set[bytes] = field(default_factory=set)
    changes: State = field(default_factory=dict)
    refusals: list[RefusedRecord] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    emitted: int = 0
    dropped: int = 0
    forwarded: int = 0

    def state_changes(self) -> Changes:
        return {**dict.fromkeys(self.forgotten), **self.changes} if self.forgotten else self.changes

    def check(self, received: int, writes: Collection[str]) -> None:
        """Raise `AssertionError` unless every record has an outcome and outputs go to topics in `writes` only."""
        if not (self.outputs.keys() | self.beside.keys()) <= set(writes):
            raise AssertionError(f"writes to more than {', '.join(writes)}")
        outcomes = self.emitted + self.dropped + self.forwarded + len(self.refusals)
        if outcomes != received:
            raise AssertionError(f"{received} records have {outcomes} outcomes")


class Step(Protocol):
    """The part of a worker that decides on batches; the loop around it is the same for every worker."""

    name: str
    writes: tuple[str, ...]  # the topics that its results may write to

    def process(self, batch: Batch, load: Load) -> BatchResult:
        """Decide on a batch. Pure except for `load`, which reads the partition's state by keys."""

    def refuse(self, batch: Batch, reason: str, detail: str) -> BatchResult:
        """Refuse every record of the batch (dead letters) without changing state. Read what is readable of each."""

    def refresh(self, partition: int, load: Load) -> BatchResult | None:
        """Return changes that have no input record (for example a new limit in the registry), or None."""

    def forget(self) -> None:
        """Drop everything cached between batches: the last batch may not have been committed."""
