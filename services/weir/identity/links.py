"""What an identifier makes of a link: whose it is, and what merges into what. Pure.

See docs/decisions/0002-identity-keys.md.
"""

import msgspec

from weir.identity import claims
from weir.identity.decisions import Decisions, Merge, merge_of, refusal_of
from weir.identity.messages import Link
from weir.identity.person import DeviceClaim, Person


def settle(link: Link, person: Person, decisions: Decisions) -> None:
    """Decide, at the identifier that a link informs, what it means there."""
    if link.at.startswith("u:"):
        _settle_user(link, person, decisions)
    elif link.at.startswith("p:"):
        _settle_profile(link, person, decisions)
    else:
        _settle_anonymous(link, person, decisions)


def _settle_user(link: Link, person: Person, decisions: Decisions) -> None:
    if person.profile_id == link.profile_id:
        return
    if person.version == 0 and not link.public:
        person.profile_id = link.profile_id  # nothing stands under the minted one yet
    else:
        decisions.merges.append(merge_of(link, link.profile_id, person.profile_id))
    person.version += 1


def _settle_profile(link: Link, person: Person, decisions: Decisions) -> None:
    """A client's profile gets its owner. Whether it merges is decided at the owner, and only there:

    so a profile merges at most once, always into the profile its user keeps, and never in a circle.
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


def _settle_anonymous(link: Link, person: Person, decisions: Decisions) -> None:
    """The earliest claim keeps the identifier and all its events, in whatever order claims come.

    Its events always have its own profile, so that a merge says whose they are; when an earlier claim
    comes later, a further merge of the same profile takes the place of the first.
    """
    claim, held = claims.claim_of(link), claims.present_claim(person, decisions.ids)
    if held is not None and not held.owner and claim.owner and held.profile_id != claim.profile_id:
        # it follows a client's profile, which only that profile's own worker may give away
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
    """Whether two claims are of one person, as far as it is known."""
    return claim.owner == other.owner and (
        claim.owner != "" or claim.profile_id == other.profile_id
    )


def _follow(link: Link, person: Person, claim: DeviceClaim, decisions: Decisions) -> None:
    if not person.at_own_profile(decisions.ids):  # an earlier version gave its events another's
        person.profile_id = decisions.ids.mint(person.workspace, person.identity_key)
    person.memory.claim, person.owner = claim, claim.owner
    if person.profile_id != claim.profile_id:
        decisions.merges.append(merge_of(link, person.profile_id, claim.profile_id))
    person.version += 1


def _refuse_claim(
    link: Link, person: Person, refused: DeviceClaim, owner: str, decisions: Decisions
) -> None:
    """Record the claim that lost. It takes the place of the merge of before, if that was its own."""
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
