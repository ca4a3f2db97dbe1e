"""Ports of the worker's loop, as Protocols. `weir.adapters` implements them on Kafka and RocksDB, and in memory."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from weir.core.batch import Batch, Changes, Output, State


class StreamBrokenError(Exception):
    """The broker refused or did not answer. Nothing of the open transaction counts: recover, then continue."""


class RecordRefusedError(Exception):
    """The brokers will never take one of the records. Nothing of the transaction counts; the stream stays usable."""


class FencedError(Exception):
    """Another process has taken this instance's slot for good: end the process."""


class StorePositions(NamedTuple):
    """How far a store is: the next offset of the input partition and of the changelog partition."""

    input: int
    changelog: int


class ChangelogRecord(NamedTuple):
    partition: int
    offset: int
    key: bytes
    value: bytes | None  # None: the key is deleted


class ChangelogReader(Protocol):
    """Reads several partitions concurrently. `StreamBrokenError` if brokers do not answer. Close it after use."""

    def poll(self, seconds: float) -> Sequence[ChangelogRecord]:
        """Return records that arrive within `seconds`, in order within each partition."""

    def remaining(self) -> Mapping[int, int]:
        """Return how many offsets each partition has left to read; partitions read to the end are omitted."""

    def close(self) -> None: ...


class Transaction(NamedTuple):
    """Everything that one or more batches write, by topic. Partition `None`: the record's key decides."""

    writes: list[tuple[str, int | None, list[Output]]]
    changelog: list[tuple[str, int, list[Output]]]
    inputs: dict[int, int]  # partition of the input topic -> next offset to commit


class Assignment(NamedTuple):
    gained: dict[int, int | None]  # partition -> the group's committed next offset; None: none yet
    lost: set[int]
    rebalanced: bool  # an assignment has arrived since the last call, even if it is empty


class Stream(Protocol):
    """The input topic and the transactional output. Both commit together."""

    def poll(self, seconds: float) -> list[Batch]:
        """Return what arrived within `seconds`: at most one batch per partition, assigned partitions only."""

    def assignment(self) -> Assignment:
        """Return partitions gained and lost since the last call (in both: lost, then gained again).

        The position of a gained partition was fetched after every transaction of a former owner had
        ended, so the changelog then holds everything that belongs to that position. The partition is
        paused until `start`.
        """

    def start(self, partition: int) -> None:
        """Start to read a gained partition from its committed position (None: from its beginning)."""

    def changelog(self, topic: str, starts: Mapping[int, int]) -> "ChangelogReader":
        """Open a reader of committed records of changelog partitions, from these offsets to their present ends."""

    def commit(self, transaction: Transaction) -> Mapping[int, int]:
        """Commit writes, changelog and input offsets atomically; they are durable on return.

        Return the next changelog offset of each changelog partition written to.
        `RecordRefusedError`: nothing is committed, and the same transaction would never be.
        `StreamBrokenError`: nothing is committed, or that is unknown; `recover` before anything else.
        """

    def accepts(self, transaction: Transaction) -> bool:
        """Check whether the brokers take small records with the same keys in place of these.

        The test records are aborted. `StreamBrokenError` as from `commit`.
        """

    def recover(self) -> None:
        """Start again as a new process would: nothing is assigned until `assignment` returns it.

        `StreamBrokenError`: it is not possible yet; try again.
        """

    def lag(self) -> Mapping[int, int]:
        """Return the number of records between each partition's position and its last known end."""

    def close(self) -> None: ...


class Store(Protocol):
    """One partition's keyed state. It is never ahead of its changelog."""

    def positions(self) -> StorePositions | None:
        """Return the store's positions, or None if it is empty."""

    def load(self, keys: Iterable[bytes]) -> State:
        """Return the values of those keys that have one."""

    def apply(self, changes: Changes, positions: StorePositions) -> None:
        """Write the changes (None deletes) and the positions atomically."""

    def close(self) -> None: ...


class Stores(Protocol):
    def open(self, partition: int) -> Store:
        """Open the partition's local store; a damaged store is discarded and starts empty."""

    def discard(self, partition: int) -> Store:
        """Replace the partition's store by an empty one."""


class Changelog(Protocol):
    """The encoding of state changes as records of a changelog topic."""

    topic: str

    def encode(self, changes: Changes) -> list[Output]: ...

    def decode(self, key: bytes, value: bytes | None) -> Mapping[bytes, bytes | None]: ...
