"""In-memory implementations of the ports, with the same guarantees: for tests and trials without a broker."""

import zlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from weir.core.batch import Batch, Output, State
from weir.runtime.ports import Assignment, ChangelogRecord, StorePositions, Transaction


class MemoryRecord(NamedTuple):
    key: bytes
    value: bytes
    timestamp: int


class MemoryLog:
    """An in-memory broker: partitioned topics, and the committed offsets of groups."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._topics: dict[str, list[list[MemoryRecord]]] = {}
        self.offsets: dict[tuple[str, str, int], int] = {}
        self.clock = 0  # timestamp of the next records, epoch milliseconds

    def partition(self, topic: str, number: int) -> list[MemoryRecord]:
        """Return the records of one partition, oldest first; append to the list to write."""
        if topic not in self._topics:
            self._topics[topic] = [[] for _ in range(self.partitions)]
        return self._topics[topic][number]

    def write(self, topic: str, outputs: Iterable[Output], partition: int | None = None) -> None:
        for key, value in outputs:
            number = zlib.crc32(key) % self.partitions if partition is None else partition
            self.partition(topic, number).append(MemoryRecord(key, value, self.clock))

    def records(self, topic: str) -> list[MemoryRecord]:
        """Return every record of a topic, partition by partition."""
        return [r for number in range(self.partitions) for r in self.partition(topic, number)]


class MemoryStream:
    """`weir.runtime.ports.Stream` on a `MemoryLog`. `assign` takes the role of the group coordinator."""

    def __init__(self, log: MemoryLog, group: str, topic: str, batch_records: int = 100) -> None:
        self._log = log
        self._group = group
        self._topic = topic
        self._batch_records = batch_records
        self._assigned: set[int] = set()
        self._gained: dict[int, int | None] = {}
        self._lost: set[int] = set()
        self._rebalanced = False
        self._next: dict[int, int] = {}

    def assign(self, partitions: set[int]) -> None:
        lost = self._assigned - partitions
        self._gained |= self._positions(partitions - self._assigned)
        self._gained = {p: at for p, at in self._gained.items() if p in partitions}
        self._lost |= lost
        self._rebalanced = True
        self._assigned = set(partitions)
        self._next = {p: at for p, at in self._next.items() if p in partitions}

    def poll(self, seconds: float) -> list[Batch]:
        batches = []
        for partition, start in sorted(self._next.items()):
            records = self._log.partition(self._topic, partition)[start:][: self._batch_records]
            if not records:
                continue
            end = start + len(records)
            self._next[partition] = end
            columns = [list(column) for column in zip(*records, strict=True)]
            keys, values, timestamps = columns
            batches.append(
                Batch(self._topic, partition, list(range(start, end)), timestamps, keys, values)
            )
        return batches

    def assignment(self) -> Assignment:
        changed = Assignment(self._gained, self._lost, self._rebalanced)
        self._gained, self._lost, self._rebalanced = {}, set(), False
        return changed

    def _positions(self, partitions: set[int]) -> dict[int, int | None]:
        return {p: self._log.offsets.get((self._group, self._topic, p)) for p in partitions}

    def start(self, partition: int) -> None:
        self._next[partition] = self._positions({partition})[partition] or 0

    def changelog(self, topic: str, starts: Mapping[int, int]) -> "MemoryChangelogReader":
        return MemoryChangelogReader(self._log, topic, starts)

    def commit(self, transaction: Transaction) -> Mapping[int, int]:
        for topic, partition, outputs in transaction.writes:
            self._log.write(topic, outputs, partition)
        ends = {}
        for topic, partition, outputs in transaction.changelog:
            self._log.write(topic, outputs, partition)
            ends[partition] = len(self._log.partition(topic, partition))
        for partition, position in transaction.inputs.items():
            self._log.offsets[(self._group, self._topic, partition)] = position
        return ends

    def accepts(self, transaction: Transaction) -> bool:
        return True

    def recover(self) -> None:
        self._next.clear()
        self._gained, self._lost, self._rebalanced = self._positions(self._assigned), set(), True

    def lag(self) -> Mapping[int, int]:
        return {
            partition: len(self._log.partition(self._topic, partition)) - position
            for partition, position in self._next.items()
        }

    def close(self) -> None:
        self._next.clear()


class MemoryChangelogReader:
    """`weir.runtime.ports.ChangelogReader`: a few records of each partition at a time."""

    def __init__(
        self, log: MemoryLog, topic: str, starts: Mapping[int, int], records: int = 2
    ) -> None:
        self._log = log
        self._topic = topic
        self._records = records
        self._at = dict(starts)
        self._ends = {partition: len(log.partition(topic, partition)) for partition in starts}

    def poll(self, seconds: float) -> list[ChangelogRecord]:
        found = []
        for partition, at in self._at.items():
            end = min(at + self._records, self._ends[partition])
            for offset in range(at, end):
                key, value, _ = self._log.partition(self._topic, partition)[offset]
                found.append(ChangelogRecord(partition, offset, key, value or None))
            self._at[partition] = max(at, end)
        return found

    def remaining(self) -> Mapping[int, int]:
        left = {partition: end - self._at[partition] for partition, end in self._ends.items()}
        return {partition: offsets for partition, offsets in left.items() if offsets > 0}

    def close(self) -> None:
        pass


class MemoryStore:
    def __init__(self) -> None:
        self._entries: State = {}
        self._positions: StorePositions | None = None

    def positions(self) -> StorePositions | None:
        return self._positions

    def load(self, keys: Iterable[bytes]) -> State:
        return {key: self._entries[key] for key in keys if key in self._entries}

    def apply(self, changes: Mapping[bytes, bytes | None], positions: StorePositions) -> None:
        for key, value in changes.items():
            if value is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = value
        self._positions = positions

    def close(self) -> None:
        pass


class MemoryStores:
    """One instance's local disk in memory: its stores outlive the worker that wrote them."""

    def __init__(self) -> None:
        self._stores: dict[int, MemoryStore] = {}

    def open(self, partition: int) -> MemoryStore:
        return self._stores.setdefault(partition, MemoryStore())

    def discard(self, partition: int) -> MemoryStore:
        self._stores.pop(partition, None)
        return self.open(partition)
