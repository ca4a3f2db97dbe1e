"""The vocabulary between a worker's loop and its decisions: batches in, decided batches out. Plain values."""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

MINUTE_MS = 60_000

State = dict[bytes, bytes]
Changes = Mapping[bytes, bytes | None]  # None deletes
Load = Callable[[Iterable[bytes]], State]


@dataclass(slots=True, frozen=True)
class Batch:
    """Records of one topic-partition in order, as columns (a column is cheaper to make than objects)."""

    topic: str
    partition: int
    offsets: list[int]
    timestamps: list[int]
    keys: list[bytes]
    values: list[bytes]
    topic_id: str = ""  # another one, if the topic was made anew under its name; empty: unknown

    @property
    def position(self) -> int:
        """The next offset after the batch."""
        return self.offsets[-1] + 1

    def __len__(self) -> int:
        return len(self.offsets)

    def part(self, first: int, end: int) -> "Batch":
        """The records at these places of the batch."""
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
        """The records from `offset` on; most often all of them, and then no copy is made."""
        if not self.offsets or self.offsets[0] >= offset:
            return self
        return self.part(bisect_left(self.offsets, offset), len(self))


class Output(NamedTuple):
    """A record to write. An empty value goes as none: it deletes the key of a compacted topic."""

    key: bytes
    value: bytes


class RefusedRecord(NamedTuple):
    """The record at `at` of the batch cannot be processed; it goes to `events.dead` untouched."""

    at: int
    reason: str
    detail: str
    source: str = ""
    received_at: int = 0
    event_id: bytes | None = None


# source, minute of receipt (epoch milliseconds), outcome
UsageKey = tuple[str, int, str]


def id_checksum(ids: Sequence[bytes]) -> int:
    """The sum of event ids, the random half of each (its bytes 8 to 15) as a number: whose events these are,

    in any order. The ids are equally long: 16 bytes, or more by a multiple of 8. An array, since a loop
    takes twice as long and this is made for every event.
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
    id_checksum: int = 0  # of the events whose id could be read
    seconds: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Usage:
    """What a batch came to, for the books: counts by source, minute of receipt and outcome."""

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
        """As `add`, and remembers which second it was (epoch seconds), for peak rates."""
        seconds = self.add(source, second * 1000, outcome, events, size).seconds
        seconds[second % 60] = seconds.get(second % 60, 0) + events


@dataclass(slots=True)
class BatchResult:
    """All that a batch came to. The worker writes it in one transaction, then applies what changed.

    Every record of the batch is emitted, dropped (intended), refused (bad) or forwarded to another
    key of the same topic: the four add up to the batch's length.
    """

    outputs: dict[str, list[Output]] = field(default_factory=dict)
    beside: dict[str, list[Output]] = field(default_factory=dict)  # into the batch's own partition
    forgotten: set[bytes] = field(
        default_factory=set
    )  # keys whose state goes; a change comes over it
    changes: State = field(default_factory=dict)
    refusals: list[RefusedRecord] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    emitted: int = 0
    dropped: int = 0
    forwarded: int = 0

    def state_changes(self) -> Changes:
        return {**dict.fromkeys(self.forgotten), **self.changes} if self.forgotten else self.changes

    def check(self, received: int, writes: Collection[str]) -> None:
        """Nothing vanishes without an outcome, and nothing is written where nobody expects it."""
        if not (self.outputs.keys() | self.beside.keys()) <= set(writes):
            raise AssertionError(f"writes to more than {', '.join(writes)}")
        told = self.emitted + self.dropped + self.forwarded + len(self.refusals)
        if told != received:
            raise AssertionError(f"{received} records came to {told} outcomes")


class Step(Protocol):
    """What a worker brings to the loop: decisions on batches, and how its state travels."""

    name: str
    writes: tuple[str, ...]  # the topics that its decisions may name

    def process(self, batch: Batch, load: Load) -> BatchResult:
        """Decide on a batch. Pure but for `load`, which reads the partition's state by keys."""

    def refuse(self, batch: Batch, reason: str, detail: str) -> BatchResult:
        """Give up every record of the batch; change no state. It reads what it can of each."""

    def refresh(self, partition: int, load: Load) -> BatchResult | None:
        """What changed without input (say, a limit in the registry); None: nothing."""

    def forget(self) -> None:
        """Drop whatever is remembered between batches: the last batch may not have been committed."""
