"""Values of redelivery: a rejected event, the recovery of a letter, a record to write, an event's identity."""

import uuid
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import msgspec
import uuid_utils

LetterKind = Literal["dead", "rejected"]


@dataclass(frozen=True)
class RejectedLetter:
    """A row of `weir.rejected`."""

    event_id: bytes
    source: str
    received_at: int
    door: str
    ip: str
    user_agent: str
    payload: bytes
    kind: ClassVar[LetterKind] = "rejected"
    step: ClassVar[str] = "gateway"

    @property
    def name(self) -> str:
        return str(uuid_utils.UUID(bytes=self.event_id))


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's entry for a letter that was sent again; the fields are those of recovery.avsc."""

    letter: str
    kind: LetterKind
    step: str
    source: str
    received_at: int
    event_id: bytes | None
    edited: bool
    recovered_at: int

    @property
    def key(self) -> bytes:
        return ledger_key(self.kind, self.letter, self.step)


def ledger_key(kind: LetterKind, letter: str, step: str) -> bytes:
    """Return the permanent key of a letter. It has the step: a record may die at two steps that read its topic."""
    return f"{kind}/{letter}/{step}".encode()


class Write(NamedTuple):
    """A record to write. `partition` None: the partition of its key, as the workers choose it."""

    topic: str
    partition: int | None
    key: bytes
    value: bytes


class Identity(NamedTuple):
    """The identity of an event: its id, and its source and idempotency key (empty: unknown)."""

    event_id: uuid.UUID
    source: str
    idempotency_key: str
