"""Build the reply to Tracardi's clients: the profile's id and, on request, what the workers did. Pure."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from weir.core.receipts import Receipt, ReceiptProfile, ReceiptSession
from weir.gateway.doors.answers import message, rejected_list
from weir.gateway.doors.door import RECEIPT_SECONDS
from weir.gateway.ingest.parsed_events import Outcome, ParsedEvents

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WAITED = f"within {RECEIPT_SECONDS:g} s"
_encode = msgspec.json.Encoder().encode
_decode_profile = msgspec.json.Decoder(ReceiptProfile).decode


class ReplyOptions(NamedTuple):
    """What the reply to the request must contain."""

    profile_id: str  # empty: profile-less
    debugger: bool
    profile: bool


class EventReply(NamedTuple):
    """One accepted event and its receipt; None: no receipt came in time."""

    event_id: str
    name: str
    receipt: Receipt | None


def reply(events: ParsedEvents, outcome: Outcome) -> bytes:
    """Return the reply as JSON: profile and source; further members only if they are not empty."""
    note: ReplyOptions = events.note
    is_replaced = "profile_id" in outcome.ignored_ids
    profile_id = events.new_profile_id if is_replaced else note.profile_id
    document: dict[str, Any] = {
        "profile": {"id": profile_id or None},
        "source": {"consent": False},
    }
    warnings = list(outcome.warnings)
    if events.wants_receipts:
        replies = replies_of(events, outcome)
        if note.profile:
            if profile := profile_of(outcome.receipts):
                document["profile"] = profile
            elif note.profile_id:
                warnings.append(
                    "The answer does not have the whole profile: "
                    + (_open(replies) or _why_no_profile(replies))
                )
        if note.debugger:
            document["debugging"] = debugging(replies, outcome, events)
    if outcome.refused:
        document["rejected"] = rejected_list(outcome.refused)
    if warnings:
        document["warnings"] = warnings
    return _encode(document)


def replies_of(events: ParsedEvents, outcome: Outcome) -> list[EventReply]:
    refused = {one.index for one in outcome.refused}
    taken = [one.event for index, one in enumerate(events.events) if index not in refused]
    return [
        EventReply(event_id, getattr(event, "event", ""), outcome.receipts.get(event_id))
        for event_id, event in zip(outcome.event_ids, taken, strict=True)
    ]


def profile_of(receipts: Mapping[str, Receipt]) -> dict[str, Any] | None:
    """Return the profile after the last of the events; None: no receipt has a profile."""
    found = [_decode_profile(receipt.profile) for receipt in receipts.values() if receipt.profile]
    if not found:
        return None
    last = max(found, key=lambda profile: profile.events)
    return {
        "id": last.id,
        "user_id": last.user_id or None,
        "traits": last.traits,
        "events": last.events,
        "sessions": last.sessions,
        "first_seen": _time(last.first_seen_at),
        "last_seen": _time(last.last_seen_at),
        "session": _session(last.session),
    }


def debugging(
    replies: Sequence[EventReply], outcome: Outcome, events: ParsedEvents
) -> dict[str, Any]:
    """Return Tracardi's object `debugging`. `saved` and `ids`: what is stored, or about to be stored."""
    heard = [one.receipt for one in replies if one.receipt is not None]
    stored = [one for one in replies if one.receipt and one.receipt.outcome == "resolved"]
    decided = [receipt for receipt in heard if receipt.outcome in ("resolved", "unsaved")]
    sessions = _unique(r.session_id for r in heard if r.outcome == "resolved")
    profiles = _unique(r.profile_id for r in decided)
    still_open = _open(replies)
    errors = [still_open] if still_open else []
    dead = [
        f"Event {one.event_id} could not be processed; it is kept as a dead letter."
        for one in replies
        if one.receipt and one.receipt.outcome == "dead"
    ]
    refused = [f"Event at {one.index}: {message(one.refusal)}." for one in outcome.refused]
    return {
        "session": _section(errors if events.wants_session else [], sessions),
        "events": _section(
            [*refused, *dead, *errors],
            [one.event_id for one in stored],
            [one.name for one in stored],
        ),
        "profile": _section(errors if events.wants_profile else [], profiles),
        "execution": {},
        "segmentation": {"errors": [], "ids": []},
        "logs": [*_logs(replies, events), *_begun(decided)],
    }


def _section(errors: list[str], ids: list[str], types: Sequence[str] = ()) -> dict[str, Any]:
    return {"saved": len(ids), "errors": errors, "ids": ids, "types": types}


def _open(replies: Sequence[EventReply]) -> str:
    """Describe the events whose receipts did not come in time; empty: there are none."""
    count = sum(1 for one in replies if one.receipt is None)
    if not count:
        return ""
    return (
        f"{count} of {len(replies)} events have no result yet: the workers did not report them"
        f" {_WAITED}; they are accepted and will be processed."
    )


def _why_no_profile(replies: Sequence[EventReply]) -> str:
    outcomes = sorted({one.receipt.outcome for one in replies if one.receipt is not None})
    return f"nothing was decided about it, because its events are {' or '.join(outcomes)}."


def _logs(replies: Sequence[EventReply], events: ParsedEvents) -> list[str]:
    logs = [f"Event {one.event_id} has no result yet." for one in replies if one.receipt is None]
    logs += [
        f"Event {event_id} {_repeated(receipt)}; it was not stored again."
        for event_id, _, receipt in replies
        if receipt is not None and receipt.outcome == "duplicate"
    ]
    if unsaved := sum(1 for one in replies if one.receipt and one.receipt.outcome == "unsaved"):
        logs.append(
            f"{unsaved} of {len(replies)} events were processed and not stored, as requested."
        )
    if not events.wants_session:
        logs.append("No session was created, as requested.")
    if not events.wants_profile and not any(
        one.receipt and one.receipt.profile_id for one in replies
    ):
        logs.append("No profile was created, as requested.")
    return logs


def _repeated(receipt: Receipt) -> str:
    first = (
        uuid.UUID(bytes=receipt.first_event_id) if receipt.first_event_id else "an earlier event"
    )
    return f"repeats {first} with {'the same' if receipt.same_payload else 'another'} payload"


def _begun(receipts: Sequence[Receipt]) -> list[str]:
    profiles = _unique(one.profile_id for one in receipts if one.profile_new)
    resolved = [one for one in receipts if one.outcome == "resolved"]
    sessions = _unique(one.session_id for one in resolved if one.session_new)
    return [f"Profile {one} is new." for one in profiles] + [
        f"Session {one} is new." for one in sessions
    ]


def _unique(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, ids)))


def _session(session: ReceiptSession | None) -> dict[str, str] | None:
    if session is None:
        return None
    return {
        "id": session.id,
        "started_at": _time(session.started_at),
        "ended_at": _time(session.ended_at),
    }


def _time(epoch_ms: int) -> str:
    at = _EPOCH + timedelta(milliseconds=epoch_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
