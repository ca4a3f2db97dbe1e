"""Outcomes and other results of identity's decisions about a batch. Plain values."""

from dataclasses import dataclass, field

import msgspec

from weir.core.identifiers import LEGACY_IDS, ProfileIds
from weir.core.receipts import Receipt
from weir.identity.messages import IdentityEvent, Link
from weir.identity.person import Person


class Resolved(msgspec.Struct):
    """Emit: the event's profile and session (empty: none)."""

    profile_id: str
    session_id: str


class Unsaved(msgspec.Struct):
    """Drop: the event is processed but not stored, as its sender asked."""

    profile_id: str
    session_id: str


class Reroute(msgspec.Struct):
    """Forward: the identifier `at` decides the event."""

    at: str


class Applied(msgspec.Struct):
    """Done: the item was a link or an erasure."""


class Erased(msgspec.Struct):
    """Drop: the event belongs to a person who was erased after the event had been received."""


class Merge(msgspec.Struct):
    """From now on `from_profile` is part of `into_profile`; if `refused`, it is not, and `detail` says why."""

    workspace: str
    from_profile: str
    into_profile: str
    merged_at: int
    event_id: bytes
    refused: bool = False
    detail: str = ""


IdentityOutcome = Resolved | Unsaved | Reroute | Applied | Erased


@dataclass(slots=True)
class Decisions:
    """One outcome per item, in order, and the links, merges and receipts that follow from the items."""

    outcomes: list[IdentityOutcome] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    merges: list[Merge] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    ids: ProfileIds = LEGACY_IDS  # mints the profile ids of these decisions


def merge_of(shown_by: Link, from_profile: str, into_profile: str) -> Merge:
    return Merge(
        shown_by.workspace, from_profile, into_profile, shown_by.received_at, shown_by.event_id
    )


def refusal_of(shown_by: IdentityEvent | Link, person: Person, other: str, target: str) -> Merge:
    detail = f"{person.identity_key} belongs to {person.owner or 'somebody known'}"
    if shown_by.public and not person.owner:
        detail += f": a public key may not claim it for {target or 'nobody'}"
    else:
        detail += f", not to {target or 'nobody'}"
    return Merge(
        shown_by.workspace,
        person.profile_id,
        other,
        shown_by.received_at,
        shown_by.event_id,
        refused=True,
        detail=detail,
    )
