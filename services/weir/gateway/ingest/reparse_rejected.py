"""Reads a refused payload once more, apart from any request: what `events.rejected` keeps of it is all there is.

Most doors read an event out of what was sent around it (headers, the path, the body's other members),
which is not kept. Their payloads can be read in the words of another door, once they are edited so.
"""

from collections.abc import Callable

import msgspec
from msgspec import Raw

from weir.gateway.doors.cloudevents import door as cloudevents
from weir.gateway.doors.door import BodyLimits, ParsedEvents
from weir.gateway.doors.events import door as events
from weir.gateway.doors.segment import door as segment
from weir.gateway.ingest.error_codes import Problem
from weir.gateway.ingest.split_body import malformed, parse_body

CAPS = BodyLimits(events=100_000, body_bytes=1 << 22)  # by hand, once: more than a request may hold

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


def read_again(door: str, payload: bytes) -> ParsedEvents | Problem | None:
    """The events of a payload in a door's words; None: they cannot be read out of it alone."""
    reader = READERS.get(door)
    return None if reader is None else reader(payload)


def _events(payload: bytes) -> ParsedEvents | Problem:
    """An event of Weir's own format, or a body of them."""
    return events.read_events(payload, False, CAPS.events)


def _calls(payload: bytes) -> ParsedEvents | Problem:
    """A call of Segment's with its `type`, or a batch of them."""
    body = payload if _has(payload, "batch") else b'{"batch":[%b]}' % payload
    return parse_body(body, lambda whole: segment.BATCH.tell_apart(whole, CAPS), malformed)


def _cloudevent(payload: bytes) -> ParsedEvents | Problem | None:
    """A structured CloudEvent."""
    return cloudevents.structured([payload], payload) if _has(payload, "specversion") else None


READERS: dict[str, Callable[[bytes], ParsedEvents | Problem | None]] = {
    "events": _events,
    "segment": _calls,
    "cloudevents": _cloudevent,
}


def _has(payload: bytes, name: str) -> bool:
    try:
        return name in _members(payload)
    except (msgspec.DecodeError, RecursionError):
        return False
