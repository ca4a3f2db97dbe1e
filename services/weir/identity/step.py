"""Decide the profile and session of each event, and which identifiers belong together. Pure functions.

Every identifier (`p:` profile, `u:` user, `a:` anonymous, `s:` session) is owned by one worker, which alone
decides about it. An event is decided at the identifier in its record's key. What the event shows about a weaker
or another identifier is sent there as a *link*, and decided there in order. See
docs/decisions/0002-identity-keys.md; `claims` decides what a sender may claim.
"""

from collections.abc import MutableMapping

from weir.core.identifiers import LEGACY_IDS, ProfileIds
from weir.identity import claims
from weir.identity.decisions import (
    Applied,
    Decisions,
    Erased,
    IdentityOutcome,
    Reroute,
    Resolved,
    Unsaved,
    refusal_of,
)
from weir.identity.links import apply_link
from weir.identity.messages import IDENTIFY, Erase, IdentityEvent, Item, Link
from weir.identity.person import Person
from weir.identity.receipts import receipt_of, with_profile
from weir.identity.sessions import session_of
from weir.identity.traits import learn

IdentifierKey = tuple[str, str]  # workspace and identifier
People = MutableMapping[IdentifierKey, Person]
ErasedUntil = MutableMapping[
    IdentifierKey, int
]  # an erased person's records were received until then


def decide(
    items: list[Item],
    people: People,
    erasures: ErasedUntil | None = None,
    ids: ProfileIds = LEGACY_IDS,
) -> Decisions:
    """Decide about the items in order, and update `people` and `erasures`.

    `people` holds the state of the items' identifiers; `erasures` those identifiers whose person was erased.
    """
    decisions = Decisions(ids=ids)
    erasures = {} if erasures is None else erasures
    for item in items:
        if isinstance(item, Erase):
            _erase(item, people, erasures, ids)
            decisions.outcomes.append(Applied())
        elif erasures and item.received_at <= erasures.get((item.workspace, item.at), -1):
            # a link from before the erasure would bring the erased person back
            decisions.outcomes.append(Erased() if isinstance(item, IdentityEvent) else Applied())
        elif isinstance(item, Link):
            apply_link(item, _person(people, item.workspace, item.at, ids), decisions)
            decisions.outcomes.append(Applied())
        else:
            decisions.outcomes.append(_resolve(item, people, decisions))
    return decisions


def _person(people: People, workspace: str, at: str, ids: ProfileIds) -> Person:
    person = people.get((workspace, at))
    if person is None:
        person = people[(workspace, at)] = Person.new(workspace, at, ids=ids)
    return person


def _erase(erase: Erase, people: People, erasures: ErasedUntil, ids: ProfileIds) -> None:
    place = (erase.workspace, erase.at)
    if erase.at in erase.names:
        until = erasures[place] = max(erase.until, erasures.get(place, 0))
        people[place] = Person.new(erase.workspace, erase.at, versions_before=until, ids=ids)
    elif place in people:
        people[place].unlink(erase.names)


def _resolve(event: IdentityEvent, people: People, decisions: Decisions) -> IdentityOutcome:
    if not event.at or not event.wants_profile:
        if event.mapped_to:
            return Reroute(event.mapped_to)
        if event.wants_receipt:
            decisions.receipts.append(receipt_of(event, "", event.client_session_id))
        return _outcome(event, "", event.client_session_id)
    person = _person(people, event.workspace, event.at, decisions.ids)
    user = "u:" + event.user_id if event.user_id else ""
    if event.at.startswith("p:"):
        if _is_turned_away(event, person, user, decisions.ids):
            return _turn_away(event, person, user, decisions)
        claims.see(event, person)
        person.owner = person.owner or user
    profile_id, sessions = person.profile_id, person.sessions
    session_id = ""
    if event.wants_session or event.client_session_id:
        session_id = session_of(
            person,
            profile_id,
            event.source,
            event.client_session_id,
            event.occurred_at,
            event.session_gap_seconds * 1_000,
        )
    person.saw(event.occurred_at)
    if event.name == IDENTIFY:
        learn(person, event)
    _link(event, person, user, decisions)
    person.version += 1
    if event.wants_receipt:
        receipt = receipt_of(event, profile_id, session_id)
        decisions.receipts.append(with_profile(receipt, event.source, person, sessions))
    return _outcome(event, profile_id, session_id)


def _outcome(event: IdentityEvent, profile_id: str, session_id: str) -> IdentityOutcome:
    return (Resolved if event.saved else Unsaved)(profile_id, session_id)


def _is_turned_away(event: IdentityEvent, person: Person, user: str, ids: ProfileIds) -> bool:
    """Check whether an event may not have the profile it names: another user owns it, or it may not claim it."""
    if claims.is_foreign(event, person, ids):
        return True
    if not user or person.owner == user:
        return False
    return bool(person.owner) or not claims.may_claim(event, person, user, ids)


def _turn_away(
    event: IdentityEvent, person: Person, user: str, decisions: Decisions
) -> IdentityOutcome:
    """Leave the profile to its owner, and reroute the event to its next identifier, if it has one."""
    target = claims.next_identifier(event, user)
    known = person.version > 0
    if not claims.is_own(event, user, decisions.ids) and (not known or person.link(target)):
        person.version += known  # nothing is stored for a profile that was never seen
        other = decisions.ids.mint(event.workspace, target) if target else ""
        decisions.merges.append(refusal_of(event, person, other, target))
    if target:
        return Reroute(target)
    if event.wants_receipt:
        decisions.receipts.append(receipt_of(event, "", event.client_session_id))
    return _outcome(event, "", event.client_session_id)


def _link(event: IdentityEvent, person: Person, user: str, decisions: Decisions) -> None:
    """Send links to the event's other identifiers the first time that they are seen together.

    Send a link again if it is true since an earlier time, if a secret key confirms what a public key had claimed,
    and if the owner becomes known.
    """
    targets = []
    if user and event.at != user:
        targets.append(user)
    if (
        event.anonymous_id
        and event.at != "a:" + event.anonymous_id
        # a profile minted for a device merges where that device is decided, and takes in no other devices
        and not (event.at.startswith("p:") and decisions.ids.minted(person.profile_id) == "other")
    ):
        targets.append("a:" + event.anonymous_id)
    if not targets:
        return
    owner = event.at if event.at.startswith("u:") else person.owner
    whose_word = "\0public" if event.public else ""
    since = claims.since(event)
    for target in targets:
        if person.link(f"{target}\0{owner}{whose_word}", since):
            decisions.links.append(
                Link(
                    target,
                    event.workspace,
                    person.profile_id,
                    owner,
                    event.source,
                    event.received_at,
                    event.event_id,
                    event.occurred_at,
                    event.public,
                )
            )
