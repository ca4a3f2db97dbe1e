"""The OpenAPI operation of Hackle's door, and the refusals of invalid fields. Pure."""

import re
from typing import Any

from weir.gateway.http import openapi
from weir.gateway.http.error_codes import Problem, Refusal

_TEXT = "a string"
_NUMBER = "a finite number"
_ID = "a string or an integer"
WHAT_FIELDS_ARE = {
    "insertId": _TEXT,
    "timestamp": "epoch seconds or milliseconds",
    "userId": _ID,
    "eventTypeKey": _TEXT,
    "eventTypeId": "an integer",
    "value": _NUMBER,
    "experimentKey": _ID,
    "experimentType": _TEXT,
    "experimentId": _ID,
    "experimentVersion": "an integer",
    "variationKey": _TEXT,
    "variationId": _ID,
    "decisionReason": _TEXT,
    "parameterKey": _TEXT,
    "parameterType": _TEXT,
    "parameterId": _ID,
    "valueId": _ID,
}
# The SDKs' names of Weir's fields, for refusals. Several identifiers can be the user or the device.
FIELDS = {
    "event": "eventTypeKey",
    "user_id": "identifiers",
    "anonymous_id": "identifiers",
    "session_id": "identifiers.$sessionId",
    "idempotency_key": "insertId",
    "occurred_at": "timestamp",
}

_EVENT = {
    "insertId": {"type": "string", "description": "The idempotency key."},
    "timestamp": {"type": "number", "description": "Epoch milliseconds or seconds."},
    "identifiers": {
        "type": "object",
        "description": "`$userId` is the user_id, or else `$id` unless it is the device's;"
        " `$deviceId` is the anonymous_id; `$sessionId` is the session_id.",
        "additionalProperties": {"type": ["string", "integer"]},
    },
    "userProperties": {"type": "object"},
    "hackleProperties": {"type": "object"},
    "properties": {"type": "object"},
}


def _list(required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    items = {"type": "object", "required": required, "properties": {**_EVENT, **properties}}
    return {"type": ["array", "null"], "items": items}


_SCHEMA = {
    "type": "object",
    "properties": {
        "trackEvents": _list(
            ["eventTypeKey", "identifiers"],
            {
                "eventTypeKey": {"type": "string", "description": "The event's name."},
                "value": {"type": ["number", "null"]},
                "properties": {
                    "type": "object",
                    "additionalProperties": {"type": ["boolean", "string", "number", "null"]},
                },
            },
        ),
        "exposureEvents": _list(
            ["experimentKey", "variationKey", "identifiers"],
            {"experimentKey": {"type": ["integer", "string"]}, "variationKey": {"type": "string"}},
        ),
        "remoteConfigEvents": _list(
            ["parameterKey", "identifiers"], {"parameterKey": {"type": "string"}}
        ),
    },
}
_REFUSED = {
    "type": "object",
    "description": "Empty if every event was accepted.",
    "properties": {
        "rejected": {"type": "array", "items": {"$ref": "#/components/schemas/Rejected"}},
        "warnings": {"type": "array", "items": {"type": "string"}},
    },
}
_POST = openapi.post(
    "Events from Hackle's SDKs: tracked events, exposures (`$exposure`), remote configurations"
    " (`$remote_config`). An invalid event does not affect the others.",
    {"application/json": {"schema": _SCHEMA}},
    parameters=[
        {
            "name": "X-HACKLE-SDK-KEY",
            "in": "header",
            "description": "The source's write key.",
            "schema": {"type": "string"},
        }
    ],
)
_TAKEN = {
    "description": "The accepted events are on all in-sync replicas.",
    "content": {"application/json": {"schema": _REFUSED}},
}
OPERATION: dict[str, Any] = _POST | {"responses": _POST["responses"] | {"202": _TAKEN}}

_missing = re.compile(r"Object missing required field `(\w+)`").match
_place = re.compile(r".* - at `\$\.(\w+).*`$", re.DOTALL).fullmatch
_identifier = re.compile(r".* - at `\$\.(\$\w+)`$", re.DOTALL).fullmatch


def explain(fault: str) -> Refusal:
    """Turn msgspec's message into a refusal that says what the field must be."""
    if missing := _missing(fault):
        return Refusal("missing", missing[1], "is missing")
    if identifier := _identifier(fault):
        return Refusal("wrong_type", f"identifiers.{identifier[1]}", f"must be {_ID}")
    place = _place(fault)
    if place is None or place[1] not in WHAT_FIELDS_ARE:
        return Refusal("not_an_object", "", f"an event must be an object: {fault}")
    code = "out_of_range" if "out of range" in fault else "wrong_type"
    return Refusal(code, place[1], f"must be {WHAT_FIELDS_ARE[place[1]]}")


def body_trouble(fault: str) -> Problem:
    """Return the problem of a body that is JSON but cannot be split into events."""
    place = _place(fault)
    text = "The body must be an object with the arrays"
    text += " `trackEvents`, `exposureEvents` and `remoteConfigEvents`"
    return Problem("invalid_body", f"{text}: {fault}.", place[1] if place else "")
