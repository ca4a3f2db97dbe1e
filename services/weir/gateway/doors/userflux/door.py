"""UserFlux's doors `/event/ingest/batch`, `/event/ingest` and `/profile`: what its SDKs send. Pure."""

from typing import Any, ClassVar
from urllib.parse import parse_qs

import msgspec
from msgspec import Raw

from weir.core.identifiers import content_digest
from weir.gateway.doors.door import Door
from weir.gateway.doors.events import door as events_door
from weir.gateway.doors.events.door import require_few
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
from weir.gateway.doors.webhook.door import json_in
from weir.gateway.http import openapi
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer, problem
from weir.gateway.ingest import lenient_json
from weir.gateway.ingest.error_codes import Problem, ProblemError, Refusal
from weir.gateway.ingest.parsed_events import BodyLimits, Outcome, ParsedEvent, ParsedEvents
from weir.gateway.ingest.split_body import parse_body
from weir.gateway.ingest.validation import Event, Policy, SentEvent, Shared

# A repeat of an event, byte for byte, is that event. The SDK tries again after a second, and after
# three failures after a minute; ten minutes are several of these rounds.
WINDOW_SECONDS = 600
SOON = 60  # seconds; within them the SDK is to keep its events and try again
KEY_PREFIX = "userflux-"
AUTO_CAPTURED = frozenset({"page_view", "page_leave", "click"})
# How browsers' storage gives back an id that is not there; the SDKs take them for blank, too.
NOBODY = frozenset({"null", "undefined"})
ABSENT = (b"", b"null")
# What Weir's checks speak of, as the SDK writes it.
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
    """What UserFlux's doors have in common."""

    name = "userflux"

    def split(self, body: bytes, limits: BodyLimits) -> list[bytes]:
        """The events of a body, each by its own bytes: one, unless the door takes more."""
        return [json_in(body)]

    def event(self, raw: bytes, about: bytes) -> SentEvent | Refusal:
        """What an event says in Weir's terms; `about` is what its context holds besides."""
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
        return ""  # their keys are the door's own making

    def reply(self, request: RequestMeta, events: ParsedEvents, outcome: Outcome) -> Answer:
        return events_door.DOOR.reply(request, events, outcome)

    def refuse(self, request: RequestMeta, trouble: Problem, headers: bytes = b"") -> Answer:
        """Without the page's leave to read it where waiting helps.

        The SDK takes every answer that it may read for a success, and forgets the events. One that it
        may not read has failed: it keeps them, and sends them again.
        """
        return problem(trouble, b"" if 0 < trouble.retry_after <= SOON else headers)


class UserFluxBatchDoor(UserFluxDoor):
    """What the browser's SDK captures, and its `track`: up to ten events a request, or more."""

    operation: ClassVar[dict[str, Any]] = openapi.post(
        "Events of UserFlux's browser SDK. The same bytes within ten minutes are the same event.",
        {"application/json": {"schema": BATCH_SCHEMA}},
        parameters=[QUERY],
    )

    def split(self, body: bytes, limits: BodyLimits) -> list[bytes]:
        return split_batch(body, limits.events)


class UserFluxEventDoor(UserFluxDoor):
    """The backend SDK's `track`: one event."""

    operation: ClassVar[dict[str, Any]] = openapi.post(
        "An event of UserFlux's backend SDK. The same bytes within ten minutes are the same event.",
        {"application/json": {"schema": EVENT_SCHEMA}},
        parameters=[QUERY],
    )


class UserFluxProfileDoor(UserFluxDoor):
    """The SDKs' `identify`."""

    operation: ClassVar[dict[str, Any]] = openapi.post(
        "UserFlux's profile: its properties become the person's traits.",
        {"application/json": {"schema": PROFILE_SCHEMA}},
        parameters=[QUERY],
    )

    def event(self, raw: bytes, about: bytes) -> SentEvent | Refusal:
        return read_profile(raw, about)


BATCH = UserFluxBatchDoor()
EVENT = UserFluxEventDoor()
PROFILE = UserFluxProfileDoor()


def split_batch(body: bytes, max_events: int) -> list[bytes]:
    """Split a batch into its events. `ProblemError` when that cannot be done."""
    sent = parse_body(body, _split, _misshapen)
    require_few(len(sent), max_events)
    return sent


def _split(body: bytes) -> list[bytes]:
    if not body.strip(b" \t\r\n"):
        raise ProblemError(Problem("empty_body", "Send an object with `events`, an array."))
    told = lenient_json.decoded(body, _decode_batch)
    if not told.found.events:
        raise ProblemError(Problem("no_events", "`events` is empty.", "events"))
    return told.own(told.found.events)


def _misshapen(fault: str) -> Problem:
    text = f"The body is an object with `events`, an array: {fault}."
    return Problem("invalid_body", text, "events")


def read_event(raw: bytes, about: bytes) -> SentEvent | Refusal:
    """An event, known again by its bytes: the SDK sends the same ones whenever it tries again.

    One without a time cannot be told from a second that happens to be alike; so each counts.
    """
    try:
        sent = _decode_event(raw)
    except msgspec.DecodeError as fault:
        return explain(raw, fault)
    key = None if sent.timestamp is None else KEY_PREFIX + content_digest(raw).hex()
    return _event(sent.name, sent, about, key, sent.timestamp)


def read_profile(raw: bytes, about: bytes) -> SentEvent | Refusal:
    """An `$identify`, each of which counts: traits may be set back to what they were just before."""
    try:
        sent = _decode_profile(raw)
    except msgspec.DecodeError as fault:
        return explain(raw, fault)
    return _event("$identify", sent, about)


def payload_of(event: Event) -> bytes:
    """What a repeat has too: its key, a digest of all its bytes. Without a key nothing is a repeat."""
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
    """Whether the sender wants places looked up, as a member of a context; empty: it does not say."""
    said = parse_qs(query).get("locationEnrichment", [""])[-1] if query else ""
    return b'"location_enrichment":' + said.encode() if said in ("true", "false") else b""
