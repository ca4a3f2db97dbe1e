"""Parse a rejected payload again, without its request: from what `events.rejected` stores alone.

Most doors also need what was sent around an event (headers, the path, the body's other members), which is not
stored. Their payloads can be parsed in another door's format, once somebody has edited them to fit it.
"""

from collections.abc import Callable

import msgspec
from msgspec import Raw

from weir.gateway.doors.cloudevents import door as cloudevents
from weir.gateway.doors.events import door as events
from weir.gateway.doors.segment import door as segment
from weir.gateway.ingest.parsed_events import BodyLimits, ParsedEvents
from weir.gateway.ingest.split_body import malformed, parse_body

# for one manual run: more than a request may have
LIMITS = BodyLimits(events=100_000, body_bytes=1 << 22)

NOT_KEPT = {
    "cloudevents": "a binary CloudEvent's attributes, which stood in headers,",
    "collect": "the name of a webhook's event, which stood in its address,",
    "hackle": "the list of the body that it stood in, with the SDK's headers,",
    "hitkeep": "which of HitKeep's routes it came by, with the page's origin,",
    "suprsend": "the signed request around it",
    "tracardi": "the session and the profile of its payload",
    "userflux": "which of UserFlux's routes it came by",
}

_members = msgspec.json.Decoder(dict[str, Raw]).decode


def parse_again(door: str, payload: bytes, now_ms: int) -> ParsedEvents | None:
    """Return the events of a payload in a door's format; None: the payload alone is not enough.

    `now_ms`: when the payload was received. `ProblemError` as the door raises it.
    """
    parser = PARSERS.get(door)
    return None if parser is None else parser(payload, now_ms)


def _events(payload: bytes, _: int) -> ParsedEvents:
    """Parse an event in Weir's own format, or a body of such events."""
    return events.parsed(events.split_events(payload, False, LIMITS.events))


def _calls(payload: bytes, now_ms: int) -> ParsedEvents:
    """Parse a Segment call that has its `type`, or a batch of calls."""
    body = payload if _has(payload, "batch") else b'{"batch":[%b]}' % payload
    return parse_body(body, lambda whole: segment.BATCH.calls(whole, LIMITS, now_ms), malformed)


def _cloudevent(payload: bytes, _: int) -> ParsedEvents | None:
    """Parse a structured CloudEvent."""
    return cloudevents.structured([payload], payload) if _has(payload, "specversion") else None


PARSERS: dict[str, Callable[[bytes, int], ParsedEvents | None]] = {
    "events": _events,
    "segment": _calls,
    "cloudevents": _cloudevent,
}


def _has(payload: bytes, name: str) -> bool:
    try:
        return name in _members(payload)
    except (msgspec.DecodeError, RecursionError):
        return False
