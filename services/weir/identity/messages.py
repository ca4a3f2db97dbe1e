"""What identity reads: events, the links that its workers send each other, and what to forget. Plain values."""

import msgspec

IDENTIFY = "$identify"


class IdentityEvent(msgspec.Struct):
    """What identity reads of an accepted event. `at` is the identifier that keys its record."""

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
    mapped_to: str = ""  # a profile-less one's identifier by its source's mapping; empty: none
    public: bool = False  # sent with a public key, or with none: its ids are only what it says


class Link(msgspec.Struct):
    """Says to the identifier `at`: an event showed that you belong to `profile_id`, owned by `owner`."""

    at: str
    workspace: str
    profile_id: str
    owner: str  # user identifier; empty: still anonymous
    source: str
    received_at: int
    event_id: bytes
    occurred_at: int = 0
    public: bool = False  # shown by an event that was sent with a public key, or with none


class Erase(msgspec.Struct):
    """Tells the identifier `at`: the person of all `names` is erased, with what was received `until` then."""

    at: str
    workspace: str
    names: list[str]  # identifiers; `at` is one of them, or remembers some
    until: int
    kept_until: int  # so long events of before may still come


Item = IdentityEvent | Link | Erase
