"""The door `POST /v1/events`: an object, an array, an envelope or NDJSON in; the 202's JSON out. Pure."""

import msgspec
from aiohttp import hdrs
from msgspec import Raw, Struct

from weir.gateway.doors.door import LIMITS_AGAIN, Door
from weir.gateway.http import openapi, request_headers
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.parsed_events import BodyLimits, LazyEvents, ParsedEvent, ParsedEvents
from weir.gateway.ingest.split_events import SplitEvents, require_room, split_events
from weir.gateway.ingest.validation import parse_event


class EventsDoor(Door):
    """Weir's own door."""

    name = "events"
    operation = openapi.post(
        "Send one event or many. An invalid event does not affect the others.",
        {
            "application/json": {"schema": openapi.BODY},
            "application/x-ndjson": {"schema": {"type": "string"}},
            "text/plain": {"schema": openapi.BODY},
        },
    )

    def takes(self, media: request_headers.Media) -> bool:
        return media.taken

    def parse(self, request: RequestMeta, body: bytes, limits: BodyLimits) -> ParsedEvents:
        is_ndjson = request_headers.media_of(request.headers.get(hdrs.CONTENT_TYPE, "")).is_ndjson
        sent = split_events(body, is_ndjson, limits.events)
        require_room(sent.shared, len(sent.events), limits)
        return parsed(sent)

    def parse_again(self, payload: bytes, now_ms: int) -> ParsedEvents:
        """Parse one event, or a body of events."""
        return parsed(split_events(payload, False, LIMITS_AGAIN.events))

    def client_id(self, parsed: ParsedEvent) -> str:
        return client_id(parsed.raw)


DOOR = EventsDoor()


def parsed(sent: SplitEvents) -> ParsedEvents:
    """Parse events in Weir's own format."""
    return ParsedEvents(LazyEvents(sent.events, _parsed_event), sent.shared)


def _parsed_event(raw: bytes) -> ParsedEvent:
    return ParsedEvent(raw, parse_event(raw))


class _SentName(Struct):
    id: Raw = Raw()
    idempotency_key: Raw = Raw()


_decode_named = msgspec.json.Decoder(_SentName).decode
_decode_text = msgspec.json.Decoder(str).decode


def client_id(raw: bytes) -> str:
    """Return the client's own id of an event, at most 255 characters; empty: none can be read."""
    try:
        named = _decode_named(raw)
    except (msgspec.DecodeError, RecursionError):
        return ""
    for part in (bytes(named.idempotency_key), bytes(named.id)):
        if part.startswith(b'"'):
            return _decode_text(part)[:255]
        if part not in (b"", b"null"):
            return part[:255].decode(errors="replace")
    return ""
