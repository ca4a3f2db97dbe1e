"""Build the receipts for events whose senders wait for the result. Pure functions."""

import msgspec

from weir.core.receipts import Receipt, ReceiptProfile, ReceiptSession
from weir.identity.messages import IdentityEvent
from weir.identity.person import Person


def receipt_of(event: IdentityEvent, profile_id: str, session_id: str) -> Receipt:
    return Receipt(
        event_id=event.event_id,
        step="identity",
        outcome="resolved" if event.saved else "unsaved",
        received_at=event.received_at,
        profile_id=profile_id,
        session_id=session_id,
    )


def with_profile(receipt: Receipt, source: str, person: Person, sessions_before: int) -> Receipt:
    """Return the receipt with the profile as it is after the event, and whether the profile and session are new."""
    owner = person.owner or person.identity_key
    profile = ReceiptProfile(
        id=person.profile_id,
        user_id=owner.removeprefix("u:") if owner.startswith("u:") else "",
        traits=msgspec.json.decode(person.traits, type=dict[str, msgspec.Raw]),
        events=person.events,
        sessions=person.sessions,
        first_seen_at=person.first_seen,
        last_seen_at=person.last_seen,
        session=_session(person, source, receipt.session_id),
    )
    return msgspec.structs.replace(
        receipt,
        profile_new=person.version == 1,
        session_new=person.sessions > sessions_before,
        profile=msgspec.json.encode(profile).decode(),
    )


def dead_receipt(event: IdentityEvent) -> Receipt:
    return msgspec.structs.replace(receipt_of(event, "", ""), outcome="dead")


def _session(person: Person, source: str, session_id: str) -> ReceiptSession | None:
    for known in person.recent_sessions:
        if known.session_id == session_id and known.source == source:
            return ReceiptSession(session_id, known.started_at, known.ended_at)
    return None
