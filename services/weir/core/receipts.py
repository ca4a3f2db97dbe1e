"""Receipts: what workers report about an event whose sender waits for the outcome. Plain values."""

from typing import Literal

import msgspec

ReceiptOutcome = Literal["duplicate", "resolved", "unsaved", "dead"]


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The final outcome of one event. A forwarded event gets its receipt where it is decided."""

    event_id: bytes
    step: Literal["dedup", "identity"]
    outcome: ReceiptOutcome
    received_at: int  # when the event was received, epoch milliseconds
    profile_id: str = ""  # empty: profile-less
    session_id: str = ""
    profile_new: bool = False
    session_new: bool = False
    first_event_id: bytes | None = None  # for a duplicate
    same_payload: bool = False  # for a duplicate
    profile: str = ""  # `ReceiptProfile` as JSON; empty: profile-less


class ReceiptSession(msgspec.Struct, frozen=True):
    """A session as of this event. Times are event times in epoch milliseconds."""

    id: str
    started_at: int
    ended_at: int


class ReceiptProfile(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The profile as of this event, as known at the identifier that decided it."""

    id: str
    user_id: str = ""
    traits: dict[str, msgspec.Raw]
    events: int
    sessions: int
    first_seen_at: int
    last_seen_at: int
    session: ReceiptSession | None = None
