"""The records that identity reads: events, links that its workers send each other, and erasures. Plain values."""

import msgspec

from weir.core.registry import SESSION_GAP_SECONDS

IDENTIFY = "$identify"


class IdentityEvent(msgspec.Struct):
    """The fields of an accepted event that identity reads. `at` is the identifier in the record's key."""

    at: str
    event_id: bytes
    workspace: str
    source: str
    name: str
    occurred_at: int
    received_at: int
    user_id: str
    anonymous_id: str
    client_profile_id: str
    client_session_id: str
    wants_profile: bool
    wants_session: bool
    saved: bool
    wants_receipt: bool = False
    traits: dict[str, msgspec.Raw] = {}  # properties of an `$identify`
    mapped_to: str = ""  # if profile-less: identifier by its source's mapping; empty: none
    public: bool = False  # sent with a public key, or without a key: its ids are unverified claims
    session_gap_seconds: int = SESSION_GAP_SECONDS  # of its source


class Link(msgspec.Struct):
    """Tells the identifier `at`: an event showed that you belong to `profile_id`, which `owner` owns."""

    at: str
    workspace: str
    profile_id: str
    owner: str  # user identifier; empty: still anonymous
    source: str
    received_at: int
    event_id: bytes
    occurred_at: int = 0
    public: bool = False  # shown by an event that was sent with a public key, or without a key


class Erase(msgspec.Struct):
    """Tells the identifier `at`: the person with all `names` is erased, with all records received up to `until`."""

    at: str
    workspace: str
    names: list[str]  # identifiers; `at` is one of them, or has links to some of them
    until: int
    kept_until: int  # until when events from before the erasure may still arrive


Item = IdentityEvent | Link | Erase
