"""What the worker's loop needs of the outside, as Protocols. `weir.adapters` has the real ones and memory twins."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from weir.core.batch import Batch, Changes, Output, State


class StreamBrokenError(Exception):
    """The broker refused or did not answer: nothing of the open transaction counts. Recover, then go on."""


class RecordRefusedError(Exception):
    """The brokers will never take one of the records. Nothing of the transaction counts; the stream goes on."""


class FencedError(Exception):
    """Another instance has taken this one's place for good: end the process."""


class StorePositions(NamedTuple):
    """How far a store is: `input`, next offset of the input partition; `changelog`, likewise."""

    input: int
    changelog: int


class ChangelogRecord(NamedTuple):
    partition: int
    offset: int
    key: bytes
    value: bytes | None  # None: the key is deleted


class ChangelogReader(Protocol):
    """Reads several partitions side by side. `StreamBrokenError`; close it."""

    def poll(self, seconds: float) -> Sequence[ChangelogRecord]:
        """What arrives within `seconds`: of each partition in order."""

    def remaining(self) -> Mapping[int, int]:
        """How many offsets each partition has to go; those read to the end are left out."""

    def close(self) -> None: ...


class Transaction(NamedTuple):
    """All that one or more batches came to, by topic; `None` as partition: by the record's key."""

    writes: list[tuple[str, int | None, list[Output]]]
    changelog: list[tuple[str, int, list[Output]]]
    inputs: dict[int, int]  # partition of the input topic -> next offset


class Assignment(NamedTuple):
    gained: dict[int, int | None]  # partition -> the group's committed next offset; None: never any
    lost: set[int]
    rebalanced: bool  # the group has spoken, if only to say that there is nothing for this member


class Stream(Protocol):
    """The input topic and the transactional output, which commit together."""

    def poll(self, seconds: float) -> list[Batch]:
        """What arrived within `seconds`, at most one batch a partition, only of assigned partitions."""

    def assignment(self) -> Assignment:
        """Partitions gained and lost since the last call (both: lost, then gained again).

        A gained one's position was asked for once no transaction of a former owner was pending on it:
        what its changelog holds from then on is all that belongs to that position. It is paused until
        `start`.
        """

    def start(self, partition: int) -> None:
        """Read a gained partition from its committed position on (None: from its beginning)."""

    def changelog(self, topic: str, starts: Mapping[int, int]) -> "ChangelogReader":
        """Committed records of changelog partitions, from these offsets to their present ends."""

    def commit(self, transaction: Transaction) -> Mapping[int, int]:
        """Durable and atomic on return: writes, changelog and input offsets, or none of them.

        Returns the next changelog offset of each changelog partition written to.
        `RecordRefusedError`: it did not, and the same transaction never will.
        `StreamBrokenError`: it did not, or is not known to have; `recover` before anything else.
        """

    def accepts(self, transaction: Transaction) -> bool:
        """Return whether the brokers take small records in place of these, under the same keys.

        Nothing is left of them. `StreamBrokenError` as from `commit`.
        """

    def recover(self) -> None:
        """As if the process had just started: nothing is assigned until `assignment` says so.

        `StreamBrokenError`: not yet; try again.
        """

    def lag(self) -> Mapping[int, int]:
        """Records between each partition's position and its end, as last heard."""

    def close(self) -> None: ...


class Store(Protocol):
    """One partition's keyed state. Never ahead of its changelog."""

    def positions(self) -> StorePositions | None:
        """How far it is; None: empty."""

    def load(self, keys: Iterable[bytes]) -> State:
        """The state of those keys that have one."""

    def apply(self, changes: Changes, positions: StorePositions) -> None:
        """Atomic: the changes (None deletes) and the positions, or neither."""

    def close(self) -> None: ...


class Stores(Protocol):
    def open(self, partition: int) -> Store:
        """The partition's local store; a damaged one is discarded and starts empty."""

    def discard(self, partition: int) -> Store:
        """An empty store in place of whatever was there."""


class Changelog(Protocol):
    """How state changes travel to, and come back from, a changelog topic."""

    topic: str

    def encode(self, changes: Changes) -> list[Output]: ...

    def decode(self, key: bytes, value: bytes | None) -> Mapping[bytes, bytes | None]: ...
