"""Parse the calls of Segment's clients into Weir's terms. Pure."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

import msgspec
from msgspec import Raw, Struct

from weir.gateway.doors.segment.times import TIMES, Time, epoch_ms, occurred_at, plain
from weir.gateway.http.error_codes import Refusal, quoted
from weir.gateway.ingest.event_times import unmistakable
from weir.gateway.ingest.lenient_json import not_json
from weir.gateway.ingest.validation import (
    EMPTY_OBJECT,
    MAX_CHARACTERS,
    NULL,
    RESERVED,
    TOO_DEEP,
    SentEvent,
)

Id = str | int | None
# Members that are removed from a call: the first changes when a client resends it, the second is a key.
APART = ("sentAt", "writeKey")
WHAT_FIELDS_ARE = {
    "messageId": "a string of 1 to 255 characters",
    **dict.fromkeys(("userId", "anonymousId", "previousId", "groupId"), "a string or an integer"),
    **dict.fromkeys(("type", "event", "name", "category"), "a string"),
    **dict.fromkeys(TIMES, "an ISO 8601 time"),
}
_NOTHING = (b"", NULL, EMPTY_OBJECT)


class SegmentCall(Struct, rename="camel", gc=False):
    """A call of any type, with the members that Weir uses; other members are ignored."""

    type: str | None = None
    event: str | None = None
    user_id: Id = None
    anonymous_id: Id = None
    message_id: Id = None
    timestamp: Time = None
    original_timestamp: Time = None
    sent_at: Time = None
    properties: Raw = Raw()
    traits: Raw = Raw()
    context: Raw = Raw()
    name: str | None = None
    category: str | None = None
    group_id: Id = None
    previous_id: Id = None
    write_key: Raw = Raw()


class _Traits(Struct):
    traits: Raw = Raw()


class _WithMessageId(Struct, rename="camel"):
    message_id: Id = None


ReadCall = tuple[bytes, SentEvent | Refusal]
_decode_message = msgspec.json.Decoder(SegmentCall).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_traits = msgspec.json.Decoder(_Traits).decode
_decode_named = msgspec.json.Decoder(_WithMessageId).decode
_encode = msgspec.json.Encoder().encode
_place = re.compile(r" - at `\$\.([a-zA-Z]+)").search
_unprintable = re.compile(r"[^\S ]|[\x00-\x1f\x7f-\x9f]").sub


def read_call(raw: bytes, call_type: str, received_at: int, batch_sent_at: int | None) -> ReadCall:
    """Return a call's bytes (without the members `APART`, if it decodes), and its event or refusal.

    `call_type`: empty if the call itself must have its `type`.
    """
    try:
        try:
            message = _decode_message(raw)
        except msgspec.ValidationError:
            message = _decode_message(plain(raw))
        sent_at = batch_sent_at
        if message.sent_at is not None:
            sent_at = epoch_ms(message.sent_at)
        if message.sent_at is not None or bytes(message.write_key):
            raw = _without_apart(raw)
        build = CALLS.get(call_type or message.type or "")
        if build is None:
            return raw, _unknown_type(message.type)
        event = build(message)
        if isinstance(event, SentEvent):
            at = occurred_at(message.timestamp, message.original_timestamp, sent_at, received_at)
            event.occurred_at = None if at is None else unmistakable(at)
        return raw, event
    except msgspec.ValidationError as fault:
        return raw, explain(str(fault))
    except msgspec.DecodeError as fault:
        return raw, not_json(raw, fault)
    except RecursionError:
        return raw, TOO_DEEP


def message_id(raw: bytes) -> str:
    """Return the client's own id of a call, for the client's information; empty: none can be read."""
    try:
        found = _decode_named(raw).message_id
    except (msgspec.DecodeError, RecursionError):
        return ""
    return "" if found is None else str(found)[:MAX_CHARACTERS]


def is_blank(given: Id) -> bool:
    return given is None or (isinstance(given, str) and not given.strip())


def _event(name: str, message: SegmentCall, properties: Raw) -> SentEvent | Refusal:
    user, anonymous, key = message.user_id, message.anonymous_id, message.message_id
    if is_blank(user) and is_blank(anonymous):
        return Refusal("missing", "userId", "or anonymousId must be sent")
    return SentEvent(
        name,
        user_id=user,
        anonymous_id=None if anonymous is None else str(anonymous),
        id=None if key is None or key == "" else str(key),
        properties=properties,
        context=message.context,
    )


def _track(message: SegmentCall) -> SentEvent | Refusal:
    called = message.event or ""
    name = name_of(called[:MEANT_CHARACTERS])
    if not name:
        return Refusal("missing", "event", "is missing; every track call must name its event")
    if name != called:
        message.context = _with(message.context, {"event": called})
    return _event(name, message, message.properties)


MEANT_CHARACTERS = 4 * MAX_CHARACTERS  # of a name are read: this bounds the cache of `name_of`


@lru_cache(maxsize=4_096)
def name_of(event: str) -> str:
    """Return the event name for a track call's event: unchanged, with its spaces, if that is valid.

    Otherwise replace control characters and other white space by spaces, put an underscore before a name that
    would be reserved for Weir, and keep the first 255 characters.
    """
    name = _unprintable(" ", event).strip()
    if name.startswith(RESERVED):
        name = f"_{name}"
    return name[:MAX_CHARACTERS].rstrip()


def _identify(message: SegmentCall) -> SentEvent | Refusal:
    """Merge the call's traits over those in its context, where mobile clients put them."""
    traits, context = message.traits, bytes(message.context)
    if b'"traits"' in context and context.startswith(b"{"):
        under = _decode_traits(context).traits
        own = bytes(traits)
        if own in _NOTHING:
            traits = under
        elif own.startswith(b"{"):
            traits = _with(under, _decode_members(own))
    return _event("$identify", message, traits)


def _page(message: SegmentCall) -> SentEvent | Refusal:
    return _event("page_view", message, _seen(message))


def _screen(message: SegmentCall) -> SentEvent | Refusal:
    return _event("screen_view", message, _seen(message))


def _seen(message: SegmentCall) -> Raw:
    """Return the properties, with the name and the category of the page or screen."""
    names = {"name": message.name, "category": message.category}
    return _with(message.properties, {name: value for name, value in names.items() if value})


def _group(message: SegmentCall) -> SentEvent | Refusal:
    if is_blank(message.group_id):
        return Refusal("missing", "groupId", "is missing; a group call must name the group")
    group: dict[str, object] = {"groupId": str(message.group_id)}
    if bytes(message.traits) not in _NOTHING:
        group["traits"] = message.traits
    return _event("group", message, Raw(_encode(group)))


def _alias(message: SegmentCall) -> SentEvent | Refusal:
    """Return one event with both ids: such an event links them."""
    previous, anonymous = message.previous_id, message.anonymous_id
    if is_blank(previous):
        return Refusal("missing", "previousId", "is missing; an alias call links it with userId")
    if is_blank(message.user_id):
        return Refusal("missing", "userId", "is missing; an alias call links it with previousId")
    ids = {"previousId": str(previous)}
    if not is_blank(anonymous):
        ids["anonymousId"] = str(anonymous)
    message.anonymous_id = previous
    return _event("alias", message, Raw(_encode(ids)))


CALLS: Mapping[str, Callable[[SegmentCall], SentEvent | Refusal]] = {
    "track": _track,
    "identify": _identify,
    "page": _page,
    "screen": _screen,
    "group": _group,
    "alias": _alias,
}


def _unknown_type(kind: str | None) -> Refusal:
    known = ", ".join(CALLS)
    if kind is None:
        return Refusal("missing", "type", f"is missing; it must be one of {known}")
    return Refusal("unknown_type", "type", f"{quoted(kind)} is not one of {known}")


def _with(own: Raw, further: Mapping[str, object]) -> Raw:
    """Return an object with further members, which win. A value that is no object stays, to be rejected later."""
    if not further:
        return own
    encoded = bytes(own)
    if encoded in _NOTHING:
        return Raw(_encode(further))
    if not encoded.startswith(b"{"):
        return own
    return Raw(_encode({**_decode_members(encoded), **further}))


def _without_apart(raw: bytes) -> bytes:
    members = _decode_members(raw)
    return _encode({name: members[name] for name in members if name not in APART})


def explain(fault: str) -> Refusal:
    """Turn msgspec's message into a refusal in Segment's terms."""
    place = _place(fault)
    if place is None:
        return Refusal("not_an_object", "", f"a call must be an object: {fault}")
    code = "invalid_time" if place[1] in TIMES else "wrong_type"
    return Refusal(code, place[1], f"must be {WHAT_FIELDS_ARE[place[1]]}")
