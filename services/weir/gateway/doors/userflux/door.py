"""UserFlux's doors `/event/ingest/batch`, `/event/ingest` and `/profile`, for its SDKs. Pure."""

from typing import Any, ClassVar
from urllib.parse import parse_qs

import msgspec
from msgspec import Raw

from weir.core.identifiers import content_digest
from weir.gateway.doors.door import Door
from weir.gateway.doors.userflux.parser import (
    BATCH_SCHEMA,
    EVENT_SCHEMA,
    PROFILE_SCHEMA,
    BatchSent,
    EventSent,
    ProfileSent,
    Sent,
    explain,
)
from weir.gateway.http import openapi
from weir.gateway.http.error_codes import Problem, ProblemError, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer, problem
from weir.gateway.ingest import lenient_json
from weir.gateway.ingest.parsed_events import BodyLimits, ParsedEvent, ParsedEvents
from weir.gateway.ingest.split_body import json_in, parse_body
from weir.gateway.ingest.split_events import require_few
from weir.gateway.ingest.validation import Event, Policy, SentEvent, Shared

# A byte-for-byte repeat of an event within this time is a duplicate. The SDK retries after a second, and after
# three failures after a minute; ten minutes cover several of these rounds.
WINDOW_SECONDS = 600
SOON = 60  # seconds; up to this `retry_after` the SDK should keep its events and retry
KEY_PREFIX = "userflux-"
AUTO_CAPTURED = frozenset({"page_view", "page_leave", "click"})
# What browser storage returns for a missing id; the SDKs treat these values as blank, too.
NOBODY = frozenset({"null", "undefined"})
ABSENT = (b"", b"null")
# The SDK's names of Weir's fields, for refusals.
FIELDS = {
    "event": "name",
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "session_id": "sessionId",
    "occurred_at": "timestamp",
    "context": "deviceData",
}
POLICY = Policy(own_names=None, uncased_names=AUTO_CAPTURED, clamps_future=True, field_names=FIELDS)
QUERY = {"name": "locationEnrichment", "in": "query", "schema": {"type": "boolean"}}

_decode_batch = msgspec.json.Decoder(BatchSent).decode
_decode_event = msgspec.json.Decoder(EventSent).decode
_encode = msgspec.json.Encoder().encode
_decode_profile = msgspec.json.Decoder(ProfileSent).decode


class UserFluxDoor(Door):
    """The base class of UserFlux's doors."""

    name = "userflux"
    not_kept = "which of UserFlux's routes it was sent to"

    def split(self, body: bytes, limits: BodyLimits) -> list[bytes]:
        """Return the events of a body, each with its own bytes: one event, unless the door takes batches."""
        return [json_in(body)]

    def event(self, raw: bytes, about: bytes) -> SentEvent | Refusal:
        """Parse an event into Weir's terms; `about` is a further member of its context."""
        return read_event(raw, about)

    def parse(self, request: RequestMeta, body: bytes, limits: BodyLimits) -> ParsedEvents:
        about = enrichment_of(request.query)
        return ParsedEvents(
            [ParsedEvent(raw, self.event(raw, about)) for raw in self.split(body, limits)],
            Shared(b"", body),
            POLICY,
            payload_of=payload_of,
            window_seconds=WINDOW_SECONDS,
        )

    def client_id(self, parsed: ParsedEvent) -> str:
        return ""  # the door creates the keys itself

    def refuse(self, request: RequestMeta, trouble: Problem, headers: bytes = b"") -> Answer:
        """Return the answer, without CORS headers if a retry within `SOON` helps.

        The SDK treats every answer that it can read as a success, and drops the events. An answer that it
        cannot read is a failure: the SDK keeps the events and sends them again.
        """
        return problem(trouble, b"" if 0 < trouble.retry_after <= SOON else headers)


class UserFluxBatchDoor(UserFluxDoor):
    """The door for the browser SDK's captured events and its `track`: up to ten events per request, or more."""

    operation: ClassVar[dict[str, Any]] = openapi.post(
        "Events from UserFlux's browser SDK. The same bytes within ten minutes are the same event.",
        {"application/json": {"schema": BATCH_SCHEMA}},
        parameters=[QUERY],
    )

    def split(self, body: bytes, limits: BodyLimits) -> list[bytes]:
        return split_batch(body, limits.events)


class UserFluxEventDoor(UserFluxDoor):
    """The door for the backend SDK's `track`: one event."""

    operation: ClassVar[dict[str, Any]] = openapi.post(
        "An event from UserFlux's backend SDK. The same bytes within ten minutes are the same event.",
        {"application/json": {"schema": EVENT_SCHEMA}},
        parameters=[QUERY],
    )


class UserFluxProfileDoor(UserFluxDoor):
    """The door for the SDKs' `identify`."""

    operation: ClassVar[dict[str, Any]] = openapi.post(
        "A profile from UserFlux's SDKs: its properties become the person's traits.",
        {"application/json": {"schema": PROFILE_SCHEMA}},
        parameters=[QUERY],
    )

    def event(self, raw: bytes, about: bytes) -> SentEvent | Refusal:
        return read_profile(raw, about)


BATCH = UserFluxBatchDoor()
EVENT = UserFluxEventDoor()
PROFILE = UserFluxProfileDoor()


def split_batch(body: bytes, max_events: int) -> list[bytes]:
    """Split a batch into its events. `ProblemError` if that cannot be done."""
    sent = parse_body(body, _split, _misshapen)
    require_few(len(sent), max_events)
    return sent


def _split(body: bytes) -> list[bytes]:
    if not body.strip(b" \t\r\n"):
        raise ProblemError(
            Problem("empty_body", "Send an object with `events`, an array of events.")
        )
    decoded = lenient_json.decoded(body, _decode_batch)
    if not decoded.found.events:
        raise ProblemError(Problem("no_events", "`events` is empty.", "events"))
    return decoded.own(decoded.found.events)


def _misshapen(fault: str) -> Problem:
    text = f"The body must be an object with `events`, an array: {fault}."
    return Problem("invalid_body", text, "events")


def read_event(raw: bytes, about: bytes) -> SentEvent | Refusal:
    """Parse an event; its key is a digest of its bytes, because the SDK resends the same bytes in a retry.

    An event without a time gets no key: a second, equal event would look like its repeat, so each counts.
    """
    try:
        sent = _decode_event(raw)
    except msgspec.DecodeError as fault:
        return explain(raw, fault)
    key = None if sent.timestamp is None else KEY_PREFIX + content_digest(raw).hex()
    return _event(sent.name, sent, about, key, sent.timestamp)


def read_profile(raw: bytes, about: bytes) -> SentEvent | Refusal:
    """Parse an `$identify`. Each counts, because traits may be set back to earlier values."""
    try:
        sent = _decode_profile(raw)
    except msgspec.DecodeError as fault:
        return explain(raw, fault)
    return _event("$identify", sent, about)


def payload_of(event: Event) -> bytes:
    """Return what a repeat also has: the key, a digest of all its bytes. An event without a key is never a repeat."""
    return event.idempotency_key.encode() or event.properties


def _event(
    name: str, sent: Sent, about: bytes, key: str | None = None, occurred_at: Any = None
) -> SentEvent | Refusal:
    context = bytes(sent.device_data)
    if context[:1] == b"{":
        context = b'{"device":' + context + b","
    elif context in ABSENT:
        context = b"{"
    else:
        return Refusal("wrong_type", "deviceData", "must be an object")
    if sent.external_id is not None:
        context += b'"external_id":' + _encode(sent.external_id) + b","
    context = context + about if about else context.rstrip(b",")
    return SentEvent(
        name,
        user_id=_known(sent.user_id),
        anonymous_id=_known(sent.anonymous_id),
        session_id=_known(sent.session_id),
        idempotency_key=key,
        occurred_at=occurred_at,
        properties=sent.properties,
        context=Raw(context + b"}"),
    )


def _known(given: str | int | None) -> str | None:
    if given is None or given in NOBODY:
        return None
    return str(given)


def enrichment_of(query: str) -> bytes:
    """Return whether the sender wants location lookups, as a member of a context; empty: it does not say."""
    said = parse_qs(query).get("locationEnrichment", [""])[-1] if query else ""
    return b'"location_enrichment":' + said.encode() if said in ("true", "false") else b""
