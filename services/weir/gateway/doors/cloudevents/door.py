"""The door `POST /v1/cloudevents`: CloudEvents 1.0 over HTTP, binary, structured and batched. Pure."""

from collections.abc import Sequence

from aiohttp import hdrs

from weir.gateway.doors.cloudevents.parser import read_binary, read_structured
from weir.gateway.doors.door import Door
from weir.gateway.http import openapi, request_headers
from weir.gateway.http.error_codes import Problem, ProblemError, quoted
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.parsed_events import BodyLimits, ParsedEvent, ParsedEvents
from weir.gateway.ingest.split_body import has_member, json_in
from weir.gateway.ingest.split_events import split_events
from weir.gateway.ingest.validation import Event, Policy, Shared

FORMATS = "application/cloudevents"
STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
# The CloudEvents names of Weir's fields, for refusals.
FIELD_NAMES = {
    "event": "type",
    "occurred_at": "time",
    "idempotency_key": "id",
    "user_id": "userid",
    "anonymous_id": "anonymousid",
    "profile_id": "profileid",
    "session_id": "sessionid",
    "properties": "data",
}
POLICY = Policy(own_names=None, spaced_names=True, field_names=FIELD_NAMES)
_EVENT = {"type": "object", "required": ["specversion", "id", "source", "type"]}


class CloudEventsDoor(Door):
    """The door for CloudEvents; `source` and `id` together are the idempotency key."""

    name = "cloudevents"
    not_kept = "a binary CloudEvent's attributes, which were in headers,"
    operation = openapi.post(
        "CloudEvents 1.0: one event in the body, an array of events, or an event with its attributes"
        " in `ce-…` headers and its data, of any type, as the body.",
        {
            STRUCTURED: {"schema": _EVENT},
            BATCHED: {"schema": {"type": "array", "items": _EVENT}},
            "*/*": {"schema": {}},
        },
    )

    def takes(self, media: request_headers.Media) -> bool:
        return True  # in binary mode it is the media type of the data

    def parse(self, request: RequestMeta, body: bytes, limits: BodyLimits) -> ParsedEvents:
        content_type = request.headers.get(hdrs.CONTENT_TYPE, "")
        name = content_type.partition(";")[0].strip().lower()
        if not name.startswith(FORMATS):
            event = ParsedEvent(body, read_binary(request.headers, body))
            return ParsedEvents([event], Shared(b"", body), POLICY, payload_of=payload_of)
        if name not in (STRUCTURED, BATCHED) or not request_headers.media_of(content_type).taken:
            text = (
                f"{quoted(content_type)} is unsupported: send {STRUCTURED} or {BATCHED}, in UTF-8."
            )
            raise ProblemError(Problem("unsupported_media_type", text))
        return structured(_batch(body, limits) if name == BATCHED else [_one(body)], body)

    def parse_again(self, payload: bytes, now_ms: int) -> ParsedEvents | None:
        """Parse a structured CloudEvent."""
        return structured([payload], payload) if has_member(payload, "specversion") else None


DOOR = CloudEventsDoor()


def payload_of(event: Event) -> bytes:
    """Return name, ids, context and properties: in binary mode most of an event is in its headers."""
    who = (event.name, event.user_id, event.anonymous_id, event.profile_id, event.session_id)
    return b"\0".join((*(text.encode() for text in who), event.context, event.properties))


def structured(events: Sequence[bytes], body: bytes) -> ParsedEvents:
    """Parse events in the JSON event format, each from its own bytes."""
    parsed = [ParsedEvent(raw, read_structured(raw)) for raw in events]
    return ParsedEvents(parsed, Shared(b"", body), POLICY)


def _one(body: bytes) -> bytes:
    if not body.strip():
        raise ProblemError(Problem("empty_body", "Send a CloudEvent as a JSON object."))
    return json_in(body)


def _batch(body: bytes, limits: BodyLimits) -> list[bytes]:
    if body.strip()[:1] not in (b"[", b""):
        raise ProblemError(Problem("invalid_body", "A batch must be an array of CloudEvents."))
    return [bytes(one) for one in split_events(body, False, limits.events).events]
