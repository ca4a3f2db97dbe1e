"""The wire format of UserFlux's SDKs (events and profiles), and the refusals of invalid fields. Pure."""

import re
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from weir.gateway.http.error_codes import Refusal
from weir.gateway.ingest.lenient_json import not_json
from weir.gateway.ingest.validation import code_of

_ID = "a string or an integer"
WHAT_FIELDS_ARE = {
    "name": "a string of 1 to 255 characters",
    "timestamp": "epoch seconds or milliseconds, or an RFC 3339 time with an offset from UTC",
    "userId": _ID,
    "anonymousId": _ID,
    "sessionId": _ID,
    "externalId": _ID,
}


class BatchSent(Struct):
    """A body of `/event/ingest/batch`."""

    events: list[Raw]


class Sent(Struct, rename="camel", gc=False, kw_only=True):
    """The common members of events and profiles. Null counts as absent; other members are ignored."""

    user_id: str | int | None = None
    anonymous_id: str | int | None = None
    session_id: str | int | None = None
    external_id: str | int | None = None
    properties: Raw = Raw()
    device_data: Raw = Raw()


class EventSent(Sent, gc=False, kw_only=True):
    """An event, in a batch or alone."""

    name: str
    timestamp: Annotated[datetime, Meta(tz=True)] | int | float | None = None


class ProfileSent(Sent, gc=False, kw_only=True):
    """A body of `/profile`."""


_TEXT: dict[str, Any] = {"type": ["string", "integer", "null"]}
_OBJECT: dict[str, Any] = {"type": ["object", "null"], "additionalProperties": True}
_WHO: dict[str, Any] = {
    "userId": _TEXT,
    "anonymousId": _TEXT,
    "sessionId": _TEXT,
    "externalId": {**_TEXT, "description": "Kept as `external_id` in the context."},
}
PROFILE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        **_WHO,
        "properties": {**_OBJECT, "description": "Traits."},
        "deviceData": {**_OBJECT, "description": "Kept as `device` in the context."},
    },
}
EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^\S+$"},
        "timestamp": {
            "description": "Epoch milliseconds or seconds. Without it, an event that is resent counts as a new event.",
            "type": ["number", "string", "null"],
        },
        **PROFILE_SCHEMA["properties"],
        "properties": _OBJECT,
    },
}
BATCH_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["events"],
    "properties": {"events": {"type": "array", "minItems": 1, "items": EVENT_SCHEMA}},
}

_missing = re.compile(r"Object missing required field `(\w+)`").match
_place = re.compile(r".* - at `\$\.(\w+)`$", re.DOTALL).fullmatch


def explain(raw: bytes, trouble: msgspec.DecodeError) -> Refusal:
    """Turn msgspec's error into a refusal that says what the field must be."""
    fault = str(trouble)
    if not isinstance(trouble, msgspec.ValidationError):
        return not_json(raw, trouble)
    if missing := _missing(fault):
        return Refusal("missing", missing[1], "is missing; every event needs one")
    place = _place(fault)
    if place is None or place[1] not in WHAT_FIELDS_ARE:
        return Refusal("not_an_object", "", f"an event must be an object: {fault}")
    return Refusal(code_of(fault), place[1], f"must be {WHAT_FIELDS_ARE[place[1]]}")
