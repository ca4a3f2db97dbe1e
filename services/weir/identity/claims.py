"""Decide who may claim an identifier, and which of several claims wins. Pure functions.

An event that was sent with a public key, or without a key, may only make claims about its own device. Its claims
about people who are already known are refused and recorded. See docs/decisions/0020-whose-word.md.
"""

from weir.core.identifiers import ProfileIds
from weir.identity.messages import IdentityEvent, Link
from weir.identity.person import EVER, PUBLIC, TRUSTED, UNKNOWN, DeviceClaim, Person


def since(item: IdentityEvent | Link) -> int:
    """Return the time from which an event's claims count.

    With a secret key: the event's own time, but at most its time of receipt. Otherwise: the time of receipt,
    because a client with a public key can write any time into an event, and would be the first everywhere.
    """
    if item.public:
        return item.received_at
    return min(item.occurred_at, item.received_at)


def claim_of(link: Link) -> DeviceClaim:
    return DeviceClaim(link.profile_id, link.owner, since(link), link.occurred_at, link.event_id)


def present_claim(person: Person, ids: ProfileIds) -> DeviceClaim | None:
    """Return the claim in force at an anonymous identifier; None if it has none.

    A claim from a version whose claims had no times counts as the oldest.
    """
    if person.memory.claim is not None:
        return person.memory.claim
    if person.owner or not person.at_own_profile(ids):
        return DeviceClaim(person.profile_id, person.owner, EVER, EVER, b"")
    return None


def is_foreign(event: IdentityEvent, person: Person, ids: ProfileIds) -> bool:
    """Check whether an event with a public key names a profile that it may not belong to.

    It may not name a profile id that Weir minted, because no client was given one to send back; nor one that a
    secret key brought first, because that is the operator's own name for a person. Public events at
    other profile ids that an earlier version has already seen are still accepted.
    """
    if not event.public:
        return False
    if person.version == 0 or person.memory.seen_first == TRUSTED:
        return person.memory.seen_first == TRUSTED or ids.may_be_minted(person.profile_id)
    return bool(ids.minted(person.profile_id))


def may_claim(item: IdentityEvent | Link, person: Person, user: str, ids: ProfileIds) -> bool:
    """Check whether a profile id without an owner may be given to a user.

    A profile id that was minted for another identifier is never given, whatever key the event has: that
    identifier decides who owns it.
    """
    if item.public and person.version > 0 and person.memory.seen_first != PUBLIC:
        return False
    if not ids.minted(person.profile_id):
        return True
    return ids.mint(item.workspace, user) == person.profile_id


def is_own(event: IdentityEvent, user: str, ids: ProfileIds) -> bool:
    """Check whether the event's profile id is the one minted for its user or its anonymous identifier."""
    further = [user] if user else []
    if event.anonymous_id:
        further.append("a:" + event.anonymous_id)
    return any(event.client_profile_id in ids.all_of(event.workspace, one) for one in further)


def next_identifier(event: IdentityEvent, user: str) -> str:
    """Return the identifier that decides an event which may not have the profile it names; empty: it has no other."""
    if user:
        return user
    if event.anonymous_id:
        return "a:" + event.anonymous_id
    return "s:" + event.client_session_id if event.client_session_id else ""


def see(item: IdentityEvent | Link, person: Person) -> None:
    """Remember whether a public or a trusted event was the first at a client's profile id."""
    if person.version == 0 and person.memory.seen_first == UNKNOWN:
        person.memory.seen_first = PUBLIC if item.public else TRUSTED
