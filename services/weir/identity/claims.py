"""Who may claim an identifier, and which of several claims counts. Pure.

An event that was sent with a public key, or with none, speaks for its own device. What it says about
people who are known already is refused and recorded. See docs/decisions/0020-whose-word.md.
"""

from weir.core.identifiers import ProfileIds
from weir.identity.messages import IdentityEvent, Link
from weir.identity.person import EVER, PUBLIC, TRUSTED, UNKNOWN, DeviceClaim, Person


def since(item: IdentityEvent | Link) -> int:
    """The time that an event's claims count from.

    The own time of an event that a secret key vouches for; of others that of receipt, since whoever has
    a public key may write any time into an event, and would be the first everywhere.
    """
    if item.public:
        return item.received_at
    return min(item.occurred_at, item.received_at)


def claim_of(link: Link) -> DeviceClaim:
    return DeviceClaim(link.profile_id, link.owner, since(link), link.occurred_at, link.event_id)


def present_claim(person: Person, ids: ProfileIds) -> DeviceClaim | None:
    """The claim in force at an anonymous identifier. One of before claims had times is older than any."""
    if person.memory.claim is not None:
        return person.memory.claim
    if person.owner or not person.at_own_profile(ids):
        return DeviceClaim(person.profile_id, person.owner, EVER, EVER, b"")
    return None


def is_foreign(event: IdentityEvent, person: Person, ids: ProfileIds) -> bool:
    """Whether an event with a public key names a profile that it may not even be of.

    A profile id of ours was given to nobody to send back, and one that a secret key brought first is the
    operator's own name of somebody. What an earlier version has seen there already goes on.
    """
    if not event.public:
        return False
    if person.version == 0 or person.memory.seen_first == TRUSTED:
        return person.memory.seen_first == TRUSTED or ids.may_be_minted(person.profile_id)
    return bool(ids.minted(person.profile_id))


def may_claim(item: IdentityEvent | Link, person: Person, user: str, ids: ProfileIds) -> bool:
    """Whether a profile id that nobody owns may be given to a user.

    Not one that was minted for another identifier, whoever says so: that one decides whose it is.
    """
    if item.public and person.version > 0 and person.memory.seen_first != PUBLIC:
        return False
    if not ids.minted(person.profile_id):
        return True
    return ids.mint(item.workspace, user) == person.profile_id


def is_own(event: IdentityEvent, user: str, ids: ProfileIds) -> bool:
    """Whether a minted profile id is the one of an identifier that the event has besides."""
    further = [user] if user else []
    if event.anonymous_id:
        further.append("a:" + event.anonymous_id)
    return any(event.client_profile_id in ids.all_of(event.workspace, one) for one in further)


def next_identifier(event: IdentityEvent, user: str) -> str:
    """Where an event is decided that may not be of the profile it names; empty: it names nobody else."""
    if user:
        return user
    if event.anonymous_id:
        return "a:" + event.anonymous_id
    return "s:" + event.client_session_id if event.client_session_id else ""


def see(item: IdentityEvent | Link, person: Person) -> None:
    """Remember who was the first at a client's profile id."""
    if person.version == 0 and person.memory.seen_first == UNKNOWN:
        person.memory.seen_first = PUBLIC if item.public else TRUSTED
