"""Plan values: the records to write for a letter, or why it cannot be sent."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol
from zlib import crc32

from weir.redelivery.model import Identity, LetterKind, Write


class Letter(Protocol):
    """The common fields of dead letters and rejected events."""

    @property
    def kind(self) -> LetterKind: ...

    @property
    def name(self) -> str:
        """The permanent name of the letter among those of its kind and step."""

    @property
    def step(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def received_at(self) -> int: ...

    @property
    def event_id(self) -> bytes | None: ...


class PlannedWrite(NamedTuple):
    """One record of a letter, and its event's identity; None: not an event, or not readable."""

    write: Write
    identity: Identity | None


class Plan(NamedTuple):
    """The records that send a letter again."""

    parts: list[PlannedWrite]
    edited: bool

    @property
    def identities(self) -> list[Identity]:
        return [part.identity for part in self.parts if part.identity is not None]


class RejectedAgain(NamedTuple):
    """Why the gateway's checks reject an event again."""

    code: str
    field: str
    detail: str


class NotSendable(NamedTuple):
    """Why a letter is not sent. `reason` is a sentence; `refused` has the details if the gateway's checks failed."""

    reason: str
    refused: tuple[RejectedAgain, ...] = ()


REFUSED_AGAIN = "rejected again"


def gateway_partition(key: bytes, topic: str, partitions: Mapping[str, int]) -> int:
    """Return the partition that the gateway's producer chooses for a key: librdkafka's `consistent` partitioner."""
    return crc32(key) % partitions[topic]
