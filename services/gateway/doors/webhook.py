"""The door `POST /collect/{event_type}/{source_id}`: any JSON object becomes an event's properties. Pure."""

import msgspec
from msgspec import Raw

from services.gateway.numbers import may_overflow, overflows
from services.gateway.refusals import Problem, Refusal
from services.gateway.rules import (
    EMPTY_OBJECT,
    MAX_DEPTH,
    MAX_EVENT_BYTES,
    TOO_LARGE_A_NUMBER,
    Event,
    check_name,
    is_deeper,
)

DOOR = "collect"
MAX_CHARACTERS = 255

_decode_raw = msgspec.json.Decoder(Raw).decode


def read_webhook(body: bytes) -> bytes | Problem:
    """The JSON object that a body holds, as it was written."""
    try:
        if not body.isascii():
            body.decode()
        if not (body := body.strip(b" \t\r\n")):
            return Problem("empty_body", "Send a JSON object: it becomes the event's properties.")
        _decode_raw(body)
    except UnicodeDecodeError as fault:
        return Problem("invalid_utf8", f"The body must be UTF-8; byte {fault.start} is not.")
    except msgspec.DecodeError as fault:
        return Problem("invalid_json", f"{fault}.")
    except RecursionError:
        return Problem("too_deep", f"JSON is nested at most {MAX_DEPTH} levels deep.")
    return body


def check_webhook(event_type: str, body: bytes, idempotency_key: str) -> Event | Refusal:
    """A profile-less event whose properties are the body; its names are the sender's own affair."""
    if not body.startswith(b"{"):
        return Refusal(
            "not_an_object", "", "a webhook's body is an object; it becomes the properties"
        )
    if len(body) > MAX_EVENT_BYTES:
        return Refusal(
            "too_large", "", f"{len(body):,} bytes; an event has at most {MAX_EVENT_BYTES:,}"
        )
    if is_deeper(body, MAX_DEPTH):
        return Refusal("too_deep", "", f"nested deeper than {MAX_DEPTH} levels")
    if may_overflow(body) and overflows(body):
        return Refusal("out_of_range", "", f"the body {TOO_LARGE_A_NUMBER}")
    if refusal := check_name(event_type):
        return refusal
    return Event(event_type, "", "", "", "", idempotency_key, None, None, EMPTY_OBJECT, body)
