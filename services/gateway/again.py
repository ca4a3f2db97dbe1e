"""Reads a refused payload once more, apart from any request: what `events.rejected` keeps of it is all there is.

Most doors read an event out of what was sent around it (headers, the path, the body's other members),
which is not kept. Their payloads can be read in the words of another door, once they are edited so.
"""

from collections.abc import Callable

import msgspec
from msgspec import Raw

from services.gateway.apart import told_apart
from services.gateway.door import Caps, Parcel
from services.gateway.doors import events, segment
from services.gateway.refusals import Problem

CAPS = Caps(
    events=100_000, body_bytes=1 << 22
)  # once more, and by hand: more than a request may hold

_members = msgspec.json.Decoder(dict[str, Raw]).decode

NOT_KEPT = {
    "collect": "the name of a webhook's event stood in its address",
    "cloudevents": "a CloudEvent's attributes may have stood in headers",
    "hackle": "the SDK's headers, and in which of the body's lists it stood,",
    "hitkeep": "the page's origin, and which of HitKeep's routes it came by,",
    "suprsend": "the signed request around it",
    "tracardi": "the session and the profile of its payload",
    "userflux": "which of UserFlux's routes it came by",
}


def read_events(payload: bytes) -> Parcel | Problem:
    """An event of Weir's own format, or a body of them."""
    return events.read_events(payload, False, CAPS.events)


def read_calls(payload: bytes) -> Parcel | Problem:
    """A call of Segment's with its `type`, or a batch of them."""
    body = payload if _has_member(payload, "batch") else b'{"batch":[%b]}' % payload
    return told_apart(body, lambda whole: segment.BATCH.tell_apart(whole, CAPS), _misshapen)


READERS: dict[str, Callable[[bytes], Parcel | Problem]] = {
    "events": read_events,
    "segment": read_calls,
}


def _misshapen(fault: str) -> Problem:
    return Problem("invalid_body", f"{fault}.")


def _has_member(payload: bytes, name: str) -> bool:
    try:
        return name in _members(payload)
    except (msgspec.DecodeError, RecursionError):
        return False
