"""Validate one event: its bytes in, an `Event` or a `Refusal` out. Pure."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from weir.core.repeated_names import without_repeats
from weir.gateway.http.error_codes import Refusal, quoted
from weir.gateway.ingest.event_times import AHEAD_MS, EARLIEST_MS, EPOCH, MILLISECOND, epoch_ms
from weir.gateway.ingest.json_number_range import may_overflow, overflows
from weir.gateway.ingest.lenient_json import not_json

MAX_EVENT_BYTES = 100 * 1024
MAX_DEPTH = 32
MAX_CHARACTERS = 255
# The names starting with `$` or `ss_` that clients may use. The properties of `$identify` are traits.
IDENTIFY = "$identify"
SYSTEM_EVENTS = frozenset({IDENTIFY})
RESERVED = ("$", "ss_")
NO_NAMES: frozenset[str] = frozenset()
EMPTY_OBJECT = b"{}"
NULL = b"null"
TOO_LARGE_A_NUMBER = "contains a number beyond ±1.797e308, which cannot be stored"
TOO_DEEP = Refusal("too_deep", "", f"nested deeper than {MAX_DEPTH} levels")
KNOWN_NAMES = 4_096

_control = re.compile(r"[\x00-\x1f\x7f-\x9f]").search
_plain = re.compile(r"[!-~]{1,255}").fullmatch
_blank = re.compile(r"\s").search
# A string that never ends matches up to the end: a new search at every quote would take quadratic time.
_in_strings = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL).sub
_OPEN_CLOSE = bytes.maketrans(b"[]", b"{}")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_valid_names: set[str] = set(SYSTEM_EVENTS)  # names seen and found valid; bounded
_valid_spaced: set[str] = set()  # the same for names with spaces, which only some doors allow


class SentEvent(Struct, forbid_unknown_fields=True, gc=False):
    """An event as clients send it. Null counts as absent, except for `event`."""

    event: str
    user_id: str | int | None = None
    anonymous_id: str | None = None
    profile_id: str | None = None
    session_id: str | None = None
    id: str | None = None
    idempotency_key: str | None = None
    value: float | None = None
    occurred_at: Annotated[datetime, Meta(tz=True)] | int | float | None = None
    properties: Raw = Raw()
    context: Raw = Raw()


class Event(Struct, gc=False, frozen=True):
    """A valid event: absent texts are empty, times are epoch milliseconds (None: the time of receipt)."""

    name: str
    user_id: str
    anonymous_id: str
    profile_id: str
    session_id: str
    idempotency_key: str
    occurred_at: int | None
    value: float | None
    context: bytes
    properties: bytes


# The same for /openapi.json.
_ID: dict[str, Any] = {"type": ["string", "null"], "maxLength": 255}
_KEY: dict[str, Any] = {"type": ["string", "null"], "minLength": 1, "maxLength": 255}
_OBJECT: dict[str, Any] = {"type": ["object", "null"], "additionalProperties": True}

EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["event"],
    "additionalProperties": False,
    "properties": {
        "event": {
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "pattern": r"^\S+$",
            "description": "The event's name. Names that start with `$` or `ss_` are reserved for Weir,"
            " except `$identify`, whose properties are the person's traits.",
        },
        "user_id": {
            "type": ["string", "integer", "null"],
            "description": "Stored as text, with all digits of an integer of any size.",
        },
        "anonymous_id": _ID,
        "profile_id": _ID,
        "session_id": _ID,
        "id": {**_KEY, "description": "The client's id of the event: the idempotency key if"
               " `idempotency_key` is absent."},
        "idempotency_key": {**_KEY, "description": "White space around it is removed. A second event"
                            " from the source with the same key, within the source's window, is a"
                            " duplicate."},
        "value": {"type": ["number", "null"]},
        "occurred_at": {
            "description": "RFC 3339 with an offset, or epoch seconds or milliseconds: a number below"
            " 100,000,000,000 is seconds and may have a fraction. Default: the time of receipt."
            " From 1900 until an hour ahead.",
            "anyOf": [{"type": "string", "format": "date-time"}, {"type": ["number", "null"]}],
        },
        "properties": {**_OBJECT, "description": "Top-level names that start with `$` or `ss_` are"
                       " rejected."},
        "context": _OBJECT,
    },
}  # fmt: skip

WHAT_FIELDS_ARE = {
    "event": "a string of 1 to 255 characters",
    "user_id": "a string or an integer",
    "anonymous_id": "a string",
    "profile_id": "a string",
    "session_id": "a string",
    "id": "a string of 1 to 255 characters",
    "idempotency_key": "a string of 1 to 255 characters",
    "value": "a finite number",
    "occurred_at": "an RFC 3339 time with an offset from UTC, or epoch seconds or milliseconds",
    "properties": "an object",
    "context": "an object",
}

_decode_event = msgspec.json.Decoder(SentEvent).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode_members = msgspec.json.Encoder().encode


def may_reserve(raw: bytes) -> bool:
    """Check whether a name in `raw` might be reserved, in any spelling; false is certain."""
    return b"$" in raw or b"\\" in raw or b'"ss_' in raw


class Shared:
    """The context that a request's events share, as an object's bytes; empty if there is none.

    Also whether anything in `body` `may_reserve` or `may_overflow`, checked once for all events.
    """

    __slots__ = ("may_overflow", "may_reserve", "members", "raw")

    def __init__(self, raw: bytes, body: bytes) -> None:
        self.raw = raw
        self.may_reserve = may_reserve(body)
        self.may_overflow = may_overflow(body)
        self.members = _decode_members(raw) if raw else {}

    @classmethod
    def nothing(cls) -> "Shared":
        return cls(b"", b"")

    def under(self, own: bytes) -> bytes:
        """Return the shared context merged with an event's own: by top-level members, the event's own win."""
        if own == EMPTY_OBJECT:
            return self.raw
        return _encode_members({**self.members, **_decode_members(own)})


class Policy(Struct, frozen=True):
    """How the events of a door are validated. Plain values, created once."""

    # Names of the product that start with `$` or `ss_`; None: names of properties are not checked
    own_names: frozenset[str] | None = NO_NAMES
    uncased_names: frozenset[str] = NO_NAMES  # names that its clients set by themselves: any casing
    spaced_names: bool = False  # whether event names may have spaces inside, as in the product
    # Whether a time too far in the future becomes the time of receipt: for clients that use their own
    # clock and do not resend rejected events. The time that they sent is not stored
    clamps_future: bool = False
    # the client's names of Weir's fields, for refusals
    field_names: Mapping[str, str] = {}

    def field(self, name: str) -> str:
        return self.field_names.get(name, name)


def parse_event(raw: bytes) -> SentEvent | Refusal:
    """Decode `raw` (UTF-8) if it has the shape of Weir's own event, else return why not; do not check its size."""
    if refusal := check_size(raw):
        return refusal
    try:
        return _decode_event(raw)
    except msgspec.ValidationError as fault:
        return explain(str(fault))
    except msgspec.DecodeError as fault:
        return not_json(raw, fault)
    except RecursionError:
        return TOO_DEEP


def validate(
    sent: SentEvent | Refusal, raw: bytes, shared: Shared, now_ms: int, policy: Policy
) -> Event | Refusal:
    """Return the event that a door has parsed from `raw` if it is valid, else why not."""
    found: Event | Refusal = (
        check_size(raw) or _check_fields(sent, raw, shared, now_ms, policy)
        if isinstance(sent, SentEvent)
        else sent
    )
    if isinstance(found, Event) or not policy.field_names:
        return found
    return found._replace(field=policy.field(found.field))


def check_size(raw: bytes) -> Refusal | None:
    """Check the size and nesting of an event; None: both are within the limits."""
    if len(raw) > MAX_EVENT_BYTES:
        return Refusal(
            "too_large", "", f"{len(raw):,} bytes; an event may have at most {MAX_EVENT_BYTES:,}"
        )
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and is_deeper(raw, MAX_DEPTH):
        return TOO_DEEP
    return None


def _check_fields(
    sent: SentEvent, raw: bytes, shared: Shared, now_ms: int, policy: Policy
) -> Event | Refusal:
    """Check the fields of an event in turn; the common cases need no function call."""
    name, own_names = sent.event, policy.own_names
    if name not in _valid_names and not (policy.spaced_names and name in _valid_spaced):
        refusal = check_name(name, own_names or NO_NAMES, policy.spaced_names)
        if refusal is not None:
            return refusal
    user, anonymous, profile, session, key = "", "", "", "", ""
    try:
        if sent.user_id is not None:
            user = _identifier("user_id", str(sent.user_id))
        if sent.anonymous_id is not None:
            anonymous = _identifier("anonymous_id", sent.anonymous_id)
        if sent.profile_id is not None:
            profile = _identifier("profile_id", sent.profile_id)
        if sent.session_id is not None:
            session = _identifier("session_id", sent.session_id)
        if sent.id is not None:
            key = _key("id", sent.id)
        if sent.idempotency_key is not None:
            key = _key("idempotency_key", sent.idempotency_key)
        occurred = sent.occurred_at
        if occurred is not None:
            occurred = _time(occurred, now_ms, policy.clamps_future)
        properties = bytes(sent.properties)
        if properties[:1] != b"{":
            properties = _absent("properties", properties)
        elif shared.may_reserve and own_names is not None and may_reserve(raw):
            _check_names(properties, own_names)
        if name == IDENTIFY:
            properties = without_repeats(properties)
        context = bytes(sent.context)
        if context[:1] != b"{":
            context = _absent("context", context)
        if shared.may_overflow and may_overflow(raw):
            _check_numbers(properties, context)
        if shared.raw:
            context = shared.under(context)
    except _EventRefusedError as refused:
        return refused.refusal
    return Event(
        sent.event,
        user,
        anonymous,
        profile,
        session,
        key,
        occurred,
        sent.value,
        context,
        properties,
    )


class _EventRefusedError(Exception):
    """A refusal that ends the checks of one event early; it never leaves this module."""

    def __init__(self, code: str, field: str, text: str) -> None:
        self.refusal = Refusal(code, field, text)


def _identifier(field: str, text: str) -> str:
    """Return an identifier, trimmed; blank counts as absent. Control characters would break keys: refuse them."""
    if _plain(text):
        return text
    text = text.strip()
    if len(text) > MAX_CHARACTERS:
        raise _EventRefusedError(
            "too_long", field, f"has {len(text)} characters; at most 255 are allowed"
        )
    if _control(text):
        raise _EventRefusedError("control_character", field, "must not contain control characters")
    return text


def _key(field: str, text: str) -> str:
    key = _identifier(field, text)
    if not key:
        raise _EventRefusedError(
            "empty", field, "must not be blank; leave it out if it has no value"
        )
    return key


def _time(sent: datetime | int | float, now_ms: int, clamps_future: bool) -> int | None:
    at = (sent - EPOCH) // MILLISECOND if isinstance(sent, datetime) else epoch_ms(sent)
    if at - now_ms > AHEAD_MS:
        if clamps_future:
            return None
        raise _EventRefusedError(
            "in_future", "occurred_at", "is more than an hour ahead of the gateway"
        )
    if at < EARLIEST_MS:
        raise _EventRefusedError("too_early", "occurred_at", "is before 1900 and cannot be stored")
    return at


def _absent(field: str, raw: bytes) -> bytes:
    if not raw or raw == NULL:
        return EMPTY_OBJECT
    raise _EventRefusedError("wrong_type", field, "must be an object")


def _check_numbers(properties: bytes, context: bytes) -> None:
    for field, raw in (("properties", properties), ("context", context)):
        if overflows(raw):
            raise _EventRefusedError("out_of_range", field, TOO_LARGE_A_NUMBER)


def _check_names(properties: bytes, own_names: frozenset[str]) -> None:
    if name := reserved_in(properties, own_names):
        raise _EventRefusedError(
            "reserved_name",
            f"properties.{name}",
            "is reserved: names starting with $ or ss_ are for Weir only",
        )


def reserved_in(properties: bytes, own_names: frozenset[str] = NO_NAMES) -> str:
    """Return the first top-level name that is reserved for Weir; empty: none."""
    names = _decode_members(properties)
    return next((n for n in names if n.startswith(RESERVED) and n not in own_names), "")


def is_deeper(raw: bytes, levels: int) -> bool:
    """Check whether well-formed JSON is nested deeper than `levels`, by removing innermost brackets per level."""
    left = _in_strings(b"", raw).translate(_OPEN_CLOSE, _NOT_BRACKETS)
    for _ in range(levels):
        if not left:
            return False
        left = left.replace(b"{}", b"")
    return bool(left)


_place = re.compile(r"(.*) - at `\$(?:\.([a-z_]+))?.*`$", re.DOTALL).fullmatch
_unknown = re.compile(r"Object contains unknown field `(.*)`$", re.DOTALL).fullmatch


def explain(fault: str) -> Refusal:
    """Turn msgspec's message into a refusal that says what the field must be."""
    if unknown := _unknown(fault):
        name = quoted(unknown[1])
        return Refusal(
            "unknown_field",
            unknown[1][:MAX_CHARACTERS],
            f"unknown field {name}; put it in properties",
        )
    if fault.startswith("Object missing required field"):
        return Refusal("missing", "event", "is missing; every event needs a name")
    place = _place(fault)
    field = place[2] or "" if place else ""
    if not field:
        return Refusal("not_an_object", "", f"an event must be an object: {fault}")
    return Refusal(code_of(fault), field, f"must be {WHAT_FIELDS_ARE[field]}")


def code_of(fault: str) -> str:
    """Return the refusal code for msgspec's message about an invalid field."""
    if "out of range" in fault:
        return "out_of_range"
    if "RFC3339" in fault or "timezone" in fault:
        return "invalid_time"
    return "wrong_type"


def check_name(
    name: str, own_names: frozenset[str] = NO_NAMES, spaced: bool = False
) -> Refusal | None:
    """Check an event name: 1 to 255 characters, no white space or control characters, not reserved; None: valid.

    `spaced`: spaces inside are allowed.
    """
    if not 1 <= len(name) <= MAX_CHARACTERS:
        return Refusal("invalid_name", "event", f"has {len(name)} characters; 1 to 255 are allowed")
    solid = name[0] + name[1:-1].replace(" ", "") + name[-1] if spaced else name
    if _blank(solid) or _control(solid):
        return Refusal("invalid_name", "event", "must not contain whitespace or control characters")
    if name.startswith(RESERVED) and name not in SYSTEM_EVENTS:
        if name in own_names:
            return None
        allowed = ", ".join(sorted(SYSTEM_EVENTS))
        return Refusal(
            "reserved_name",
            "event",
            f"names starting with $ or ss_ are reserved for Weir, except {allowed}",
        )
    valid = _valid_spaced if " " in name else _valid_names
    if len(valid) >= KNOWN_NAMES:
        valid.clear()
    valid.add(name)
    return None
