"""What the workers tell about an event whose sender waits to hear it. Plain values."""

from typing import Literal

import msgspec

Outcome = Literal["duplicate", "resolved", "unsaved", "dead"]


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The last word on one event; a forwarded one gets its receipt where it is decided."""

    event_id: bytes
    step: Literal["dedup", "identity"]
    outcome: Outcome
    received_at: int  # of the event, epoch milliseconds
    profile_id: str = ""  # empty: profile-less
    session_id: str = ""
    profile_new: bool = False
    session_new: bool = False
    first_event_id: bytes | None = None  # of a duplicate
    same_payload: bool = False  # of a duplicate
    profile: str = ""  # `ToldProfile` as JSON; empty: profile-less


class ToldSession(msgspec.Struct, frozen=True):
    """A session as it stands after the event. Times are epoch milliseconds of the events' own time."""

    id: str
    started_at: int
    ended_at: int


class ToldProfile(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What is known, after the event, at the identifier that it was decided at."""

    id: str
    user_id: str = ""
    traits: dict[str, msgspec.Raw]
    events: int
    sessions: int
    first_seen_at: int
    last_seen_at: int
    session: ToldSession | None = None
