"""What is to be written for a letter, or why nothing can be. Plain values."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol
from zlib import crc32

from weir.redelivery.model import Identity, Kind, Write


class Letter(Protocol):
    """What dead letters and refusals have in common."""

    @property
    def kind(self) -> Kind: ...

    @property
    def name(self) -> str:
        """Names it for good, beside its kind and step."""

    @property
    def step(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def received_at(self) -> int: ...

    @property
    def event_id(self) -> bytes | None: ...


class PlannedWrite(NamedTuple):
    """One record of a letter, and what its event is known by; None: no event, or not to be read."""

    write: Write
    identity: Identity | None


class Plan(NamedTuple):
    """What sends a letter in again."""

    parts: list[PlannedWrite]
    edited: bool

    @property
    def identities(self) -> list[Identity]:
        return [part.identity for part in self.parts if part.identity is not None]


class RejectedAgain(NamedTuple):
    """An event that the gateway's checks refuse again."""

    code: str
    field: str
    detail: str


class NotSendable(NamedTuple):
    """It stays where it is: `reason` is a sentence; `refused` says more where checks said no."""

    reason: str
    refused: tuple[RejectedAgain, ...] = ()


REFUSED_AGAIN = "refused again"


def gateway_partition(key: bytes, topic: str, partitions: Mapping[str, int]) -> int:
    """Where the gateway's producer puts a key: librdkafka's `consistent` partitioner."""
    return crc32(key) % partitions[topic]
