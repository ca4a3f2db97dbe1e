"""Decide what a link changes at an identifier: its owner, and which profiles merge. Pure functions.

See docs/decisions/0002-identity-keys.md.
"""

import msgspec

from weir.identity import claims
from weir.identity.decisions import Decisions, Merge, merge_of, refusal_of
from weir.identity.messages import Link
from weir.identity.person import DeviceClaim, Person


def apply_link(link: Link, person: Person, decisions: Decisions) -> None:
    """Decide what a link means at the identifier that it is addressed to, and update the person."""
    if link.at.startswith("u:"):
        _apply_to_user(link, person, decisions)
    elif link.at.startswith("p:"):
        _apply_to_profile(link, person, decisions)
    else:
        _apply_to_anonymous(link, person, decisions)


def _apply_to_user(link: Link, person: Person, decisions: Decisions) -> None:
    if person.profile_id == link.profile_id:
        return
    if person.version == 0 and not link.public:
        person.profile_id = link.profile_id  # nothing has been stored under the minted id yet
    else:
        decisions.merges.append(merge_of(link, link.profile_id, person.profile_id))
    person.version += 1


def _apply_to_profile(link: Link, person: Person, decisions: Decisions) -> None:
    """Set the owner of a client's profile. Only the owner's identifier decides whether the profile merges.

    So a profile merges at most once, always into the profile that its user keeps, and never in a circle.
    """
    if person.owner == link.owner:
        return
    if person.owner or not claims.may_claim(link, person, link.owner, decisions.ids):
        if person.link(link.owner):
            person.version += 1
            decisions.merges.append(refusal_of(link, person, link.profile_id, link.owner))
        return
    claims.see(link, person)
    person.owner = link.owner
    person.version += 1
    if person.link(f"{link.owner}\0{link.owner}"):
        decisions.links.append(
            msgspec.structs.replace(link, at=link.owner, profile_id=person.profile_id)
        )


def _apply_to_anonymous(link: Link, person: Person, decisions: Decisions) -> None:
    """Give the identifier and all its events to the earliest claim, in whatever order claims arrive.

    The identifier's events always keep its own profile, and a merge says who owns them. If an earlier claim
    arrives after a later one, another merge of the same profile replaces the first merge.
    """
    claim, held = claims.claim_of(link), claims.present_claim(person, decisions.ids)
    if held is not None and not held.owner and claim.owner and held.profile_id != claim.profile_id:
        # the identifier belongs to a client's profile, and only that profile's worker may give it an owner
        decisions.links.append(msgspec.structs.replace(link, at="p:" + held.profile_id))
        if link.public:
            return
    if held is None or (claim.rank < held.rank and not _is_same(claim, held)):
        if held is not None and held.owner:
            _refuse_claim(link, person, held, claim.owner, decisions)
        _follow(link, person, claim, decisions)
    elif _is_same(claim, held):
        if claim.rank < held.rank:
            person.memory.claim = msgspec.structs.replace(claim, profile_id=held.profile_id)
            person.version += 1
    elif claim.owner:
        _refuse_claim(link, person, claim, held.owner, decisions)


def _is_same(claim: DeviceClaim, other: DeviceClaim) -> bool:
    """Check whether two claims belong to the same person, as far as is known."""
    return claim.owner == other.owner and (
        claim.owner != "" or claim.profile_id == other.profile_id
    )


def _follow(link: Link, person: Person, claim: DeviceClaim, decisions: Decisions) -> None:
    if not person.at_own_profile(decisions.ids):  # an earlier version used another one
        person.profile_id = decisions.ids.mint(person.workspace, person.identity_key)
    person.memory.claim, person.owner = claim, claim.owner
    if person.profile_id != claim.profile_id:
        decisions.merges.append(merge_of(link, person.profile_id, claim.profile_id))
    person.version += 1


def _refuse_claim(
    link: Link, person: Person, refused: DeviceClaim, owner: str, decisions: Decisions
) -> None:
    """Record the claim that lost. The record replaces the earlier merge of that claim, if there is one."""
    decisions.merges.append(
        Merge(
            person.workspace,
            person.profile_id,
            refused.profile_id,
            link.received_at,
            link.event_id,
            refused=True,
            detail=f"{person.identity_key} belongs to {owner}, not to {refused.owner}",
        )
    )
