"""Parse the events of SuprSend's SDKs into Weir's terms. Pure."""

import json
import re

import msgspec
from msgspec import Raw, Struct

from weir.gateway.http.error_codes import Refusal, quoted
from weir.gateway.ingest.lenient_json import not_json
from weir.gateway.ingest.public_urls import why_not_public
from weir.gateway.ingest.validation import RESERVED, TOO_DEEP, Event, SentEvent

# The SDK's own events (`RESERVED_EVENT_NAMES`) and properties, which its rule against such names exempts.
OWN_NAMES = frozenset(
    {
        "$identify",
        "$notification_delivered",
        "$notification_dismiss",
        "$notification_clicked",
        "$app_launched",
        "$user_login",
        "$user_logout",
        "$ss_sdk_version",
        "$attachments",
    }
)
NO_ATTACHMENT = "attachment_not_found"
RESERVED_TEXT = "names starting with $ or ss_ are reserved"
NULL = (b"", b"null")
NOTHING: dict[str, object] = {}


class Wire(Struct, gc=False):
    """An event as the SDKs send it: `distinct_id` and `event` are required."""

    event: str
    distinct_id: str | int
    insert_id: str | None = msgspec.field(default=None, name="$insert_id")
    time: int | float | None = msgspec.field(default=None, name="$time")
    idempotency_key: str | None = msgspec.field(default=None, name="$idempotency_key")
    env: str | None = None
    tenant_id: str | int | None = None
    brand_id: str | int | None = None
    properties: Raw = Raw()


class _KnownWire(Wire, forbid_unknown_fields=True, gc=False):
    """A strict `Wire` that detects further members at once: they are rare, and go into the context."""


class _Carrying(Struct):
    attachments: Raw = msgspec.field(default=Raw(), name="$attachments")


class _Attachment(Struct):
    url: str | None = None
    data: Raw = Raw()


KNOWN = frozenset(field.encode_name for field in msgspec.structs.fields(Wire))
WHAT_FIELDS_ARE = {
    "event": "a string",
    "distinct_id": "a string or an integer",
    "$insert_id": "a string of 1 to 255 characters",
    "$idempotency_key": "a string of 1 to 255 characters",
    "$time": "epoch seconds or milliseconds",
    "env": "a string",
    "tenant_id": "a string",
    "brand_id": "a string",
}

_decode_known = msgspec.json.Decoder(_KnownWire).decode
_decode_wire = msgspec.json.Decoder(Wire).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_carrying = msgspec.json.Decoder(_Carrying).decode
_decode_attachments = msgspec.json.Decoder(list[_Attachment] | None).decode
_encode = msgspec.json.Encoder().encode
_missing = re.compile(r"Object missing required field `(.+)`").match
_place = re.compile(r" - at `\$\.([$a-z_]+)").search
# Reserved names that Weir's own check does not find, because it compares exactly. They are rare, so properties
# are decoded only if they might contain one.
_disguised = re.compile(rb'"(?:S[Ss]_|sS_|[^!-~]+(?:\$|[sS]{2}_))|\\').search


def read_event(raw: bytes, workspace_key: str) -> SentEvent | Refusal:
    """Return the event in `raw`, in Weir's terms; its context does not keep the workspace key."""
    try:
        return _read(raw, workspace_key)
    except msgspec.ValidationError as fault:
        return explain(str(fault))
    except msgspec.DecodeError as fault:
        return not_json(raw, fault)
    except RecursionError:
        return TOO_DEEP


def _read(raw: bytes, workspace_key: str) -> SentEvent | Refusal:
    others = NOTHING
    try:
        wire: Wire = _decode_known(raw)
    except msgspec.ValidationError:
        wire = _decode_wire(raw)
        members = _decode_members(raw)
        others = {name: members[name] for name in members if name not in KNOWN}
    name, user = wire.event.strip(), wire.distinct_id
    if isinstance(user, str) and not user.strip():
        return Refusal("missing", "distinct_id", "is blank; every event must name its user")
    if name[:3].lower() == "ss_" and not name.startswith("ss_"):
        return Refusal("reserved_name", "event", RESERVED_TEXT)
    properties = bytes(wire.properties)
    refusal = check_names(properties) or check_attachments(properties)
    if refusal is not None:
        return refusal
    return SentEvent(
        name,
        user_id=user,
        id=wire.insert_id,
        idempotency_key=wire.idempotency_key if (wire.idempotency_key or "").strip() else None,
        occurred_at=wire.time,
        properties=wire.properties,
        context=_context(wire, others, workspace_key),
    )


def payload_of(event: Event) -> bytes:
    """Return the bytes that a repeat also has: the SDK gives every attempt a new `$insert_id` and `$time`."""
    who_and_what = f"{event.name}\0{event.user_id}\0".encode()
    return b"\0".join((who_and_what, event.properties, event.context))


def check_names(properties: bytes) -> Refusal | None:
    """Check the names of properties as names of events are checked: trimmed, and ignoring case."""
    if not properties.startswith(b"{") or not _disguised(properties):
        return None
    for name in _decode_members(properties):
        if name.strip().lower().startswith(RESERVED) and name not in OWN_NAMES:
            return Refusal("reserved_name", f"properties.{name}", RESERVED_TEXT)
    return None


def check_attachments(properties: bytes) -> Refusal | None:
    """Check that each attachment has a public URL; fetch nothing. The texts are those of SuprSend's documentation."""
    if b'"$attachments"' not in properties and b"\\u" not in properties:
        return None
    if not properties.startswith(b"{"):
        return None  # validation rejects it for that
    if _has_name_twice(properties):
        # JSON readers differ in which value they take: the checked URL might not be the fetched one
        text = "must not contain a name twice if there are attachments"
        return Refusal("invalid_json", "properties", text)
    try:
        attachments = _decode_attachments(_decode_carrying(properties).attachments or b"null")
    except msgspec.ValidationError:
        text = "must be a list of objects, each with a `url`"
        return Refusal("wrong_type", "properties.$attachments", text)
    for index, one in enumerate(attachments or ()):
        if why := _why_not(one):
            field = f"properties.$attachments[{index}]"
            return Refusal(NO_ATTACHMENT, field, f"404 not found: {why}")
    return None


def _has_name_twice(properties: bytes) -> bool:
    def pairs(found: list[tuple[str, object]]) -> dict[str, object]:
        if len(members := dict(found)) < len(found):
            raise ValueError
        return members

    try:
        json.loads(properties, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return True
    return False


def _why_not(one: _Attachment) -> str:
    if bytes(one.data) not in NULL:
        return "send a file as a public URL, not as its content or a local path"
    if one.url is None:
        return "the attachment has no url"
    why = why_not_public(one.url)
    return f"{quoted(one.url)} {why}" if why else ""


def _context(wire: Wire, others: dict[str, object], workspace_key: str) -> Raw:
    kept = dict(others)
    if wire.env is not None and wire.env != workspace_key:
        kept["env"] = wire.env
    if wire.tenant_id is not None:
        kept["tenant_id"] = wire.tenant_id
    if wire.brand_id is not None:
        kept["brand_id"] = wire.brand_id
    return Raw(_encode(kept)) if kept else Raw()


def explain(fault: str) -> Refusal:
    """Turn msgspec's message into a refusal in SuprSend's terms."""
    if missing := _missing(fault):
        return Refusal("missing", missing[1], "is missing; every event needs it")
    place = _place(fault)
    if place is None or place[1] not in WHAT_FIELDS_ARE:
        return Refusal("not_an_object", "", f"an event must be an object: {fault}")
    return Refusal("wrong_type", place[1], f"must be {WHAT_FIELDS_ARE[place[1]]}")
