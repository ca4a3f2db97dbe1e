"""Letters: what could not be processed or was refused, and that it was sent in again. Plain values."""

import uuid
from typing import Literal, NamedTuple

import msgspec

Kind = Literal["dead", "rejected"]


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's entry of a letter that was sent in again; the fields are those of recovery.avsc."""

    letter: str
    kind: Kind
    step: str
    source: str
    received_at: int
    event_id: bytes | None
    edited: bool
    recovered_at: int

    @property
    def key(self) -> bytes:
        return ledger_key(self.kind, self.letter, self.step)


def ledger_key(kind: Kind, letter: str, step: str) -> bytes:
    """Names a letter for good: a record may die at two steps that both read its topic."""
    return f"{kind}/{letter}/{step}".encode()


class Write(NamedTuple):
    """A record to write; `partition` None: the one of its key, as the workers choose it."""

    topic: str
    partition: int | None
    key: bytes
    value: bytes


class Identity(NamedTuple):
    """What an event is known by: its id, and its source's idempotency key (empty: not known)."""

    event_id: uuid.UUID
    source: str
    idempotency_key: str
