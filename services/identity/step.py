"""Identity's decisions: whose event is this, in which visit, and which identifiers belong together. Pure.

Every identifier (`p:` profile, `u:` user, `a:` anonymous, `s:` session) is owned by one worker, which
alone decides what becomes of it. An event is decided at the identifier that keys its record; what it
shows about a weaker or a further identifier goes there as a *link* and is decided there, in order.
See docs/decisions/0002-identity-keys.md.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass, field

import msgspec

from services.core.identifiers import minted_profile_id
from services.core.receipts import Receipt
from services.identity.items import IDENTIFY, Erase, Event, Item, Link
from services.identity.person import Person
from services.identity.sessions import session_of
from services.identity.telling import tell, tell_person

MAX_TRAITS_BYTES = 102_400


class Resolved(msgspec.Struct):
    """Emit: the event's profile and session (empty: none)."""

    profile_id: str
    session_id: str


class Unsaved(msgspec.Struct):
    """Drop: processed as its sender asked, and not to be stored."""

    profile_id: str
    session_id: str


class Forward(msgspec.Struct):
    """The event is another identifier's to decide."""

    at: str


class Settled(msgspec.Struct):
    """A link or an erasure, dealt with."""


class Erased(msgspec.Struct):
    """Drop: the event is of a person who was erased after it had been received."""


class Merge(msgspec.Struct):
    """`from_profile` is part of `into_profile` from now on; `refused`: it was not, for `detail`."""

    workspace: str
    from_profile: str
    into_profile: str
    merged_at: int
    event_id: bytes
    refused: bool = False
    detail: str = ""


Outcome = Resolved | Unsaved | Forward | Settled | Erased


@dataclass(slots=True)
class Decisions:
    """One outcome an item, in order, and what else they showed."""

    outcomes: list[Outcome] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    merges: list[Merge] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)


Place = tuple[str, str]  # workspace and identifier
People = MutableMapping[Place, Person]
Erasures = MutableMapping[Place, int]  # until when what was received there is an erased person's


def decide(items: list[Item], people: People, erasures: Erasures | None = None) -> Decisions:
    """Decide in order. `people` holds what is known at the items' identifiers, and is brought up to date.

    So does `erasures`: of the identifiers whose person was erased.
    """
    decisions = Decisions()
    erasures = {} if erasures is None else erasures
    for item in items:
        if isinstance(item, Erase):
            _erase(item, people, erasures)
            decisions.outcomes.append(Settled())
        elif erasures and item.received_at <= erasures.get((item.workspace, item.at), -1):
            # a link of before would make the person known again
            decisions.outcomes.append(Erased() if isinstance(item, Event) else Settled())
        elif isinstance(item, Link):
            _settle(item, _person(people, item.workspace, item.at), decisions)
            decisions.outcomes.append(Settled())
        else:
            decisions.outcomes.append(_resolve(item, people, decisions))
    return decisions


def _person(people: People, workspace: str, at: str) -> Person:
    person = people.get((workspace, at))
    if person is None:
        person = people[(workspace, at)] = Person.new(workspace, at)
    return person


def _erase(erase: Erase, people: People, erasures: Erasures) -> None:
    place = (erase.workspace, erase.at)
    if erase.at in erase.names:
        until = erasures[place] = max(erase.until, erasures.get(place, 0))
        people[place] = Person.new(erase.workspace, erase.at, versions_before=until)
    elif place in people:
        people[place].unlink(erase.names)


def _resolve(event: Event, people: People, decisions: Decisions) -> Outcome:
    if not event.at or not event.wants_profile:
        if event.mapped_to:
            return Forward(event.mapped_to)
        if event.wants_receipt:
            decisions.receipts.append(tell(event, "", event.client_session_id))
        return _outcome(event, "", event.client_session_id)
    person = _person(people, event.workspace, event.at)
    user = "u:" + event.user_id if event.user_id else ""
    if user and event.at != user:
        if person.owner and person.owner != user:
            return _disown(event, person, user, decisions)
        person.owner = user
    profile_id, sessions = person.profile_id, person.sessions
    session_id = ""
    if event.wants_session or event.client_session_id:
        session_id = session_of(
            person, profile_id, event.source, event.client_session_id, event.occurred_at
        )
    person.saw(event.occurred_at)
    if event.name == IDENTIFY:
        _learn(person, event)
    _link(event, person, user, decisions)
    person.version += 1
    if event.wants_receipt:
        receipt = tell(event, profile_id, session_id)
        decisions.receipts.append(tell_person(receipt, event.source, person, sessions))
    return _outcome(event, profile_id, session_id)


def _outcome(event: Event, profile_id: str, session_id: str) -> Outcome:
    return (Resolved if event.saved else Unsaved)(profile_id, session_id)


def _disown(event: Event, person: Person, user: str, decisions: Decisions) -> Forward:
    """The profile that the client asserts is another user's: theirs stays theirs, the event is the user's."""
    if person.link(user):
        person.version += 1
        decisions.merges.append(
            _refusal(event, person, minted_profile_id(event.workspace, user), user)
        )
    return Forward(user)


def _link(event: Event, person: Person, user: str, decisions: Decisions) -> None:
    """Tell the event's other identifiers whose they are, the first time they are seen together."""
    targets = []
    if user and event.at != user:
        targets.append(user)
    if event.anonymous_id and event.at != "a:" + event.anonymous_id:
        targets.append("a:" + event.anonymous_id)
    owner = event.at if event.at.startswith("u:") else person.owner
    for target in targets:
        # an anonymous identifier is told again once its owner is known
        if person.link(target + "\0" + owner):
            decisions.links.append(
                Link(
                    target,
                    event.workspace,
                    person.profile_id,
                    owner,
                    event.source,
                    event.received_at,
                    event.event_id,
                )
            )


def _settle(link: Link, person: Person, decisions: Decisions) -> None:
    """Decide, at the identifier that a link informs, what it means there."""
    if link.at.startswith("u:"):
        _settle_user(link, person, decisions)
    elif person.owner and link.owner and person.owner != link.owner:
        if person.link(link.owner):
            person.version += 1
            decisions.merges.append(_refusal(link, person, link.profile_id, link.owner))
    elif not person.owner:
        _settle_anonymous(link, person, decisions)


def _settle_user(link: Link, person: Person, decisions: Decisions) -> None:
    if person.profile_id == link.profile_id:
        return
    if person.version == 0:
        person.profile_id = link.profile_id  # nothing stands under the minted one yet
    else:
        decisions.merges.append(_merge(link, link.profile_id, person.profile_id))
    person.version += 1


def _settle_anonymous(link: Link, person: Person, decisions: Decisions) -> None:
    """An identifier nobody owned: its past joins the link's profile, its future is decided as that."""
    if link.at.startswith("p:"):
        _claim(link, person, decisions)
        return
    if person.profile_id != link.profile_id:
        if person.at_own_profile():
            if person.events:
                decisions.merges.append(_merge(link, person.profile_id, link.profile_id))
        elif link.owner:
            # it followed a client's profile, which only that profile's own worker may give away
            decisions.links.append(msgspec.structs.replace(link, at="p:" + person.profile_id))
        person.profile_id = link.profile_id
    person.owner = link.owner
    person.version += 1


def _claim(link: Link, person: Person, decisions: Decisions) -> None:
    """A client's profile gets its owner. Whether it merges is decided at the owner, and only there:

    so a profile merges at most once, always into the profile its user keeps, and never in a circle.
    """
    person.owner = link.owner
    person.version += 1
    if person.link(link.owner + "\0" + link.owner):
        decisions.links.append(
            msgspec.structs.replace(link, at=link.owner, profile_id=person.profile_id)
        )


def _learn(person: Person, event: Event) -> None:
    """Later values win, by the events' own time; an older `$identify` only adds what is missing."""
    known = msgspec.json.decode(person.traits, type=dict[str, msgspec.Raw])
    newer = event.occurred_at >= person.traits_at
    merged = {**known, **event.traits} if newer else {**event.traits, **known}
    text = msgspec.json.encode(merged)
    if len(text) <= MAX_TRAITS_BYTES:  # beyond it the event itself still holds what was said
        person.traits = text.decode()
    person.traits_at = max(person.traits_at, event.occurred_at)


def _merge(shown_by: Link, from_profile: str, into_profile: str) -> Merge:
    return Merge(
        shown_by.workspace, from_profile, into_profile, shown_by.received_at, shown_by.event_id
    )


def _refusal(shown_by: Event | Link, person: Person, other: str, user: str) -> Merge:
    return Merge(
        shown_by.workspace,
        person.profile_id,
        other,
        shown_by.received_at,
        shown_by.event_id,
        refused=True,
        detail=f"{person.identity_key} belongs to {person.owner}, not to {user}",
    )
