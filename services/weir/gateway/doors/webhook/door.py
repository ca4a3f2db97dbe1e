"""The door `/collect/{event_type}/{source_id}`: any JSON object becomes an event's properties. Pure.

By GET, for services and pixels that can do no more, the parameters of the query do.
"""

from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw

from weir.gateway.doors.door import (
    BodyLimits,
    Credentials,
    Door,
    Outcome,
    ParsedEvent,
    ParsedEvents,
    RequestMeta,
)
from weir.gateway.doors.events import door as events
from weir.gateway.http import openapi, request_headers
from weir.gateway.http.responses import Answer
from weir.gateway.ingest.error_codes import Problem, Refusal
from weir.gateway.ingest.json_number_range import may_overflow, overflows
from weir.gateway.ingest.split_body import malformed, parse_body
from weir.gateway.ingest.validation import TOO_LARGE_A_NUMBER, SentEvent, Shared

MAX_CHARACTERS = 255

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": MAX_CHARACTERS},
}

_encode = msgspec.json.Encoder().encode
_decode_raw = msgspec.json.Decoder(Raw).decode


class WebhookDoor(Door):
    """Takes what other services post of their own accord: no profile, no session."""

    name = "collect"
    operation = openapi.post(
        "Any JSON object becomes the properties of one event without profile or session.",
        {"application/json": {"schema": {"type": "object"}}},
        parameters=[IDEMPOTENCY_KEY],
    )

    def claim(self, asked: RequestMeta) -> Credentials:
        return Credentials(
            request_headers.key_of(asked.headers, asked.query), asked.parts["source_id"]
        )

    def read(self, asked: RequestMeta, body: bytes, caps: BodyLimits) -> ParsedEvents | Problem:
        found = read_webhook(body)
        return found if isinstance(found, Problem) else parcel_of(asked, found)

    def reply(self, asked: RequestMeta, parcel: ParsedEvents, outcome: Outcome) -> Answer:
        return events.DOOR.reply(asked, parcel, outcome)


class QueryDoor(WebhookDoor):
    """The same by GET: nothing of the answer may be kept on the way, or the next one would not arrive."""

    operation = openapi.post(
        "The query's parameters, `key` aside, become the properties of such an event.",
        {},
        parameters=[IDEMPOTENCY_KEY],
    )
    del operation["requestBody"]

    def takes(self, media: request_headers.Media) -> bool:
        return True  # there is nothing in the body

    def read(self, asked: RequestMeta, body: bytes, caps: BodyLimits) -> ParsedEvents | Problem:
        return parcel_of(asked, _encode(properties_of(asked.query)))

    def reply(self, asked: RequestMeta, parcel: ParsedEvents, outcome: Outcome) -> Answer:
        answer = super().reply(asked, parcel, outcome)
        return answer._replace(headers=answer.headers + b"Cache-Control: no-store\r\n")


DOOR = WebhookDoor()
BY_QUERY = QueryDoor()


def parcel_of(asked: RequestMeta, properties: bytes) -> ParsedEvents | Problem:
    key = request_headers.clean(asked.headers.get(request_headers.IDEMPOTENCY_KEY, "").strip())
    if len(key) > MAX_CHARACTERS:
        return Problem("invalid_idempotency_key", "It has at most 255 characters.")
    return ParsedEvents(
        drafts=[ParsedEvent(properties, draft(asked.parts["event_type"], properties, key))],
        shared=Shared(b"", properties),
        wants_profile=False,
        own_names=None,
    )


def properties_of(query: str) -> dict[str, str | list[str]]:
    """The parameters but for the key; one that is there several times is an array, in order."""
    found: dict[str, str | list[str]] = {}
    for name, value in parse_qsl(request_headers.clean(query), keep_blank_values=True):
        if name == "key":
            continue
        before = found.get(name)
        if before is None:
            found[name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            found[name] = [before, value]
    return found


def read_webhook(body: bytes) -> bytes | Problem:
    """The JSON that a body holds, as it was written."""
    return parse_body(body, _json_in, malformed)


def _json_in(body: bytes) -> bytes | Problem:
    if not (body := body.strip(b" \t\r\n")):
        return Problem("empty_body", "Send a JSON object: it becomes the event's properties.")
    _decode_raw(body)
    return body


def draft(event_type: str, body: bytes, idempotency_key: str) -> SentEvent | Refusal:
    """An event whose properties are the body; its names are the sender's own affair."""
    if not body.startswith(b"{"):
        text = "a webhook's body is an object; it becomes the properties"
        return Refusal("not_an_object", "", text)
    if may_overflow(body) and overflows(body):
        return Refusal("out_of_range", "", f"the body {TOO_LARGE_A_NUMBER}")
    return SentEvent(event_type, idempotency_key=idempotency_key or None, properties=Raw(body))
