"""The door `POST /v1/cloudevents`: CloudEvents 1.0 over HTTP, binary, structured and batched. Pure."""

from collections.abc import Sequence

from aiohttp import hdrs

from weir.gateway.doors.cloudevents.parser import read_binary, read_structured
from weir.gateway.doors.door import (
    BodyLimits,
    Door,
    Outcome,
    ParsedEvent,
    ParsedEvents,
    RequestMeta,
)
from weir.gateway.doors.events import door as events
from weir.gateway.doors.events.door import Sent, read_events
from weir.gateway.doors.webhook.door import read_webhook
from weir.gateway.http import openapi, request_headers
from weir.gateway.http.responses import Answer
from weir.gateway.ingest.error_codes import Problem, quoted
from weir.gateway.ingest.validation import Event, Shared

FORMATS = "application/cloudevents"
STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
# What Weir's checks speak of, as CloudEvents name it.
WORDS = {
    "event": "type",
    "occurred_at": "time",
    "idempotency_key": "id",
    "user_id": "userid",
    "anonymous_id": "anonymousid",
    "profile_id": "profileid",
    "session_id": "sessionid",
    "properties": "data",
}
_EVENT = {"type": "object", "required": ["specversion", "id", "source", "type"]}


class CloudEventsDoor(Door):
    """Takes CloudEvents; `source` and `id` together are the idempotency key."""

    name = "cloudevents"
    operation = openapi.post(
        "CloudEvents 1.0: one in the body, an array of them, or one whose attributes are `ce-…`"
        " headers and whose data is the body, of any type.",
        {
            STRUCTURED: {"schema": _EVENT},
            BATCHED: {"schema": {"type": "array", "items": _EVENT}},
            "*/*": {"schema": {}},
        },
    )

    def takes(self, media: request_headers.Media) -> bool:
        return True  # in binary mode the type is that of the data

    def read(self, asked: RequestMeta, body: bytes, caps: BodyLimits) -> ParsedEvents | Problem:
        content_type = asked.headers.get(hdrs.CONTENT_TYPE, "")
        name = content_type.partition(";")[0].strip().lower()
        if not name.startswith(FORMATS):
            draft = ParsedEvent(body, read_binary(asked.headers, body))
            parcel = _parcel([draft], body)
            parcel.payload_of = payload_of
            return parcel
        if name not in (STRUCTURED, BATCHED) or not request_headers.media_of(content_type).taken:
            text = f"{quoted(content_type)} is not taken: send {STRUCTURED} or {BATCHED}, in UTF-8."
            return Problem("unsupported_media_type", text)
        found = _batch(body, caps) if name == BATCHED else _one(body)
        return found if isinstance(found, Problem) else structured(found, body)

    def reply(self, asked: RequestMeta, parcel: ParsedEvents, outcome: Outcome) -> Answer:
        return events.DOOR.reply(asked, parcel, outcome)


DOOR = CloudEventsDoor()


def payload_of(event: Event) -> bytes:
    """In binary mode most of an event is in its headers."""
    who = (event.name, event.user_id, event.anonymous_id, event.profile_id, event.session_id)
    return b"\0".join((*(text.encode() for text in who), event.context, event.properties))


def structured(events: Sequence[bytes], body: bytes) -> ParsedEvents:
    """Events in the JSON event format, each by its own bytes."""
    return _parcel([ParsedEvent(raw, read_structured(raw)) for raw in events], body)


def _parcel(drafts: list[ParsedEvent], body: bytes) -> ParsedEvents:
    return ParsedEvents(drafts, Shared(b"", body), own_names=None, spaced_names=True, words=WORDS)


def _one(body: bytes) -> list[bytes] | Problem:
    if not body.strip():
        return Problem("empty_body", "Send a CloudEvent, a JSON object.")
    found = read_webhook(body)
    return found if isinstance(found, Problem) else [found]


def _batch(body: bytes, caps: BodyLimits) -> list[bytes] | Problem:
    if body.strip()[:1] not in (b"[", b""):
        return Problem("invalid_body", "A batch is an array of CloudEvents.")
    found = read_events(body, False, caps.events)
    return [bytes(one) for one in found.events] if isinstance(found, Sent) else found
