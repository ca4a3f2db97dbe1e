"""The door `/collect/{event_type}/{source_id}`: any JSON object becomes an event's properties. Pure.

By GET, for services and pixels that cannot POST, the parameters of the query become the properties.
"""

from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw

from weir.gateway.doors.door import Door
from weir.gateway.http import openapi, request_headers
from weir.gateway.http.error_codes import Problem, ProblemError, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer
from weir.gateway.ingest.json_number_range import may_overflow, overflows
from weir.gateway.ingest.parsed_events import (
    BodyLimits,
    Credentials,
    Outcome,
    ParsedEvent,
    ParsedEvents,
)
from weir.gateway.ingest.split_body import json_in
from weir.gateway.ingest.validation import TOO_LARGE_A_NUMBER, Policy, SentEvent, Shared

MAX_CHARACTERS = 255
POLICY = Policy(own_names=None)

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": MAX_CHARACTERS},
}

_encode = msgspec.json.Encoder().encode
_decode_raw = msgspec.json.Decoder(Raw).decode


class WebhookDoor(Door):
    """The door for webhooks of other services: their events have no profile and no session."""

    name = "collect"
    not_kept = "the name of a webhook's event, which was in its URL,"
    operation = openapi.post(
        "Any JSON object becomes the properties of one event without a profile or session.",
        {"application/json": {"schema": {"type": "object"}}},
        parameters=[IDEMPOTENCY_KEY],
    )

    def credentials(self, request: RequestMeta) -> Credentials:
        return Credentials(
            request_headers.key_of(request.headers, request.query), request.parts["source_id"]
        )

    def parse(self, request: RequestMeta, body: bytes, limits: BodyLimits) -> ParsedEvents:
        return parsed(request, json_in(body))


class QueryDoor(WebhookDoor):
    """The same door by GET. Its answers must not be cached, or the next request would not arrive."""

    operation = openapi.post(
        "The query's parameters, except `key`, become the properties of one event without a profile or session.",
        {},
        parameters=[IDEMPOTENCY_KEY],
    )
    del operation["requestBody"]

    def takes(self, media: request_headers.Media) -> bool:
        return True  # the body is not used

    def parse(self, request: RequestMeta, body: bytes, limits: BodyLimits) -> ParsedEvents:
        return parsed(request, _encode(properties_of(request.query)))

    def reply(self, request: RequestMeta, events: ParsedEvents, outcome: Outcome) -> Answer:
        answer = super().reply(request, events, outcome)
        return answer._replace(headers=answer.headers + b"Cache-Control: no-store\r\n")


DOOR = WebhookDoor()
BY_QUERY = QueryDoor()


def parsed(request: RequestMeta, properties: bytes) -> ParsedEvents:
    key = request_headers.clean(request.headers.get(request_headers.IDEMPOTENCY_KEY, "").strip())
    if len(key) > MAX_CHARACTERS:
        text = f"Idempotency-Key may have at most {MAX_CHARACTERS} characters."
        raise ProblemError(Problem("invalid_idempotency_key", text))
    return ParsedEvents(
        [ParsedEvent(properties, event_of(request.parts["event_type"], properties, key))],
        Shared(b"", properties),
        POLICY,
        wants_profile=False,
    )


def properties_of(query: str) -> dict[str, str | list[str]]:
    """Return the parameters without `key`; a parameter that occurs several times is an array, in order."""
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


def event_of(event_type: str, body: bytes, idempotency_key: str) -> SentEvent | Refusal:
    """Return an event whose properties are the body; the names of the properties are not checked."""
    if not body.startswith(b"{"):
        text = "the body of a webhook must be an object; it becomes the properties"
        return Refusal("not_an_object", "", text)
    if may_overflow(body) and overflows(body):
        return Refusal("out_of_range", "", f"the body {TOO_LARGE_A_NUMBER}")
    return SentEvent(event_type, idempotency_key=idempotency_key or None, properties=Raw(body))
