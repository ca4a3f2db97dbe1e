"""Parse CloudEvents 1.0, structured or binary, into Weir's terms. Pure.

https://github.com/cloudevents/spec: `spec.md`, `formats/json-format.md`, `bindings/http-protocol-binding.md`.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import hdrs
from msgspec import Meta, Raw

from weir.gateway.http import request_headers
from weir.gateway.http.error_codes import ProblemError, Refusal, quoted
from weir.gateway.ingest.json_number_range import may_overflow, overflows
from weir.gateway.ingest.lenient_json import not_json
from weir.gateway.ingest.split_body import json_in
from weir.gateway.ingest.validation import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    NULL,
    TOO_DEEP,
    TOO_LARGE_A_NUMBER,
    SentEvent,
    is_deeper,
)

PREFIX = "ce-"
VERSION = "1.0"
REQUIRED = ("specversion", "id", "source", "type")
STRINGS = (*REQUIRED, "subject", "time", "dataschema", "datacontenttype")
# Extension attributes that identify the person of the event.
IDENTIFIERS = ("userid", "anonymousid", "profileid", "sessionid")
# Attributes that have a field of their own in an event; every other attribute is kept in the context.
PLACED = frozenset({"specversion", "type", "time", *IDENTIFIERS})

Attributes = Mapping[str, Any]
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_any = msgspec.json.Decoder().decode
_decode_bytes = msgspec.json.Decoder(bytes).decode
_encode = msgspec.json.Encoder().encode
# A quoted string that never ends matches up to the end, so that the rest is not searched again.
_quoted = re.compile(r'"((?:[^"\\]++|\\.)*+)(?:"|\\?\Z)', re.DOTALL).sub
_backslashed = re.compile(r"\\(.)", re.DOTALL).sub
_plain = re.compile(r"[!-~]+").fullmatch
_ZonedTime = Annotated[datetime, Meta(tz=True)]


def read_structured(raw: bytes) -> SentEvent | Refusal:
    """Parse an event in the JSON event format."""
    try:
        members = _decode_members(raw)
        data, encoded = (bytes(members.pop(name, Raw(NULL))) for name in ("data", "data_base64"))
        attributes: dict[str, Any] = {name: _decode_any(value) for name, value in members.items()}
    except msgspec.ValidationError as fault:
        return Refusal("not_an_object", "", f"an event must be an object: {fault}")
    except msgspec.DecodeError as fault:
        return not_json(raw, fault)
    except RecursionError:
        return TOO_DEEP
    attributes = {name: value for name, value in attributes.items() if value is not None}
    if refusal := check(attributes):
        return refusal
    kind: str = attributes.get("datacontenttype", "")
    if encoded == NULL:
        return event_of(attributes, properties_of_member(data, kind))
    if data != NULL:
        return Refusal("invalid_body", "data_base64", "must not be sent together with data")
    try:
        decoded = _decode_bytes(encoded)
    except msgspec.ValidationError:
        return Refusal("wrong_type", "data_base64", "must be a string in Base64")
    return event_of(attributes, properties_of(decoded, kind))


def read_binary(headers: request_headers.Headers, body: bytes) -> SentEvent | Refusal:
    """Parse an event whose attributes are headers and whose data is the body."""
    attributes: dict[str, Any] = {}
    for header, value in headers.items():
        name = header.lower()
        if not name.startswith(PREFIX):
            continue
        text = attribute_of(value)
        if text is None:
            return Refusal("invalid_utf8", name, "is not UTF-8 after percent-decoding")
        attributes[name[len(PREFIX) :]] = text
    if "datacontenttype" in attributes:
        text = "must not be sent; the Content-Type has this value"
        return Refusal("unknown_field", "ce-datacontenttype", text)
    kind = request_headers.clean(headers.get(hdrs.CONTENT_TYPE, ""))
    if kind:
        attributes["datacontenttype"] = kind
    return check(attributes, PREFIX) or event_of(attributes, properties_of(body, kind))


def attribute_of(header: str) -> str | None:
    """Decode a header's value: unquote strings, then undo percent-encoding once; None: it is not UTF-8."""
    text = _quoted(lambda found: _backslashed(r"\1", found[1]), header.strip())
    try:
        return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode()
    except UnicodeError:
        return None


def check(attributes: Attributes, prefix: str = "") -> Refusal | None:
    """Check the attributes of a CloudEvent 1.0; None: they are valid."""
    for name in REQUIRED:
        if attributes.get(name, "") == "":
            return Refusal("missing", prefix + name, "is missing; every CloudEvent must have it")
    for name in STRINGS:
        if not isinstance(attributes.get(name, ""), str):
            return Refusal("wrong_type", prefix + name, "must be a string")
    version = attributes["specversion"]
    if version != VERSION:
        text = f"is {quoted(version)}; only {VERSION} is supported"
        return Refusal("unknown_version", prefix + "specversion", text)
    for name in IDENTIFIERS:
        value = attributes.get(name, "")
        if isinstance(value, bool) or not isinstance(value, str | int):
            return Refusal("wrong_type", prefix + name, "must be a string or an integer")
    return None


def event_of(attributes: Attributes, properties: Raw | Refusal) -> SentEvent | Refusal:
    """Return the event of attributes that `check` found valid."""
    if isinstance(properties, Refusal):
        return properties
    occurred_at = None
    if "time" in attributes:
        try:
            occurred_at = msgspec.convert(attributes["time"], _ZonedTime)
        except msgspec.ValidationError:
            text = "must be an RFC 3339 time with an offset from UTC"
            return Refusal("invalid_time", "time", text)
    user, anonymous, profile, session = (attributes.get(name) for name in IDENTIFIERS)
    return SentEvent(
        attributes["type"],
        user_id=user,
        anonymous_id=None if anonymous is None else str(anonymous),
        profile_id=None if profile is None else str(profile),
        session_id=None if session is None else str(session),
        idempotency_key=key_of(attributes["source"], attributes["id"]),
        occurred_at=occurred_at,
        properties=properties,
        context=Raw(_encode({name: attributes[name] for name in attributes if name not in PLACED})),
    )


def key_of(source: str, event_id: str) -> str:
    """Return a key that is equal only for equal source and id: both, with a space between them.

    If that would be too long or ambiguous, return a digest of both.
    """
    key = f"{source} {event_id}"
    is_certain = _plain(source) and event_id.isprintable() and event_id == event_id.strip()
    if is_certain and len(key) <= MAX_CHARACTERS:
        return key
    unambiguous = f"{len(source)} {source} {event_id}"
    return "sha256:" + hashlib.sha256(unambiguous.encode()).hexdigest()


def is_json(content_type: str) -> bool:
    name, _, charset = _media(content_type)
    return charset in request_headers.CHARSETS and name.endswith(("/json", "+json"))


def is_text(content_type: str) -> bool:
    name, kind, charset = _media(content_type)
    is_xml = name.endswith(("/xml", "+xml"))
    return charset in request_headers.CHARSETS and (kind == "text" or is_xml)


def _media(content_type: str) -> tuple[str, str, str]:
    """Return the media type in lower case, the part before its slash, and its charset, by default UTF-8."""
    name, *parameters = (part.strip() for part in content_type.lower().split(";"))
    charset = [p.partition("=")[2].strip('" ') for p in parameters if p.startswith("charset")]
    return name, name.partition("/")[0], charset[0] if charset else "utf-8"


def properties_of_member(data: bytes, content_type: str) -> Raw | Refusal:
    """Return the properties for the member `data`: JSON, or a string if its type is not JSON."""
    if not content_type or is_json(content_type):
        return _properties(data, content_type)
    if data == NULL or data.startswith(b'"'):
        return _properties(data, content_type)
    return Refusal(
        "wrong_type", "data", f"must be a string, because its type is {quoted(content_type)}"
    )


def properties_of(data: bytes, content_type: str) -> Raw | Refusal:
    """Return the properties for data in bytes: JSON as JSON, text as text, everything else in Base64."""
    if not data:
        return Raw()
    if is_json(content_type):
        try:
            found = json_in(data)
        except ProblemError as error:
            text = f"does not match its content type: {error.problem.detail}"
            return Refusal(error.problem.code, "data", text)
        if is_deeper(found, MAX_DEPTH):
            return Refusal("too_deep", "data", f"is nested deeper than {MAX_DEPTH} levels")
        if may_overflow(found) and overflows(found):
            return Refusal("out_of_range", "data", TOO_LARGE_A_NUMBER)
        return _properties(found, content_type)
    if is_text(content_type):
        try:
            return _properties(_encode(data.decode()), content_type)
        except UnicodeDecodeError:
            pass
    return _properties(_encode(data), content_type, "data_base64")


def _properties(data: bytes, content_type: str, name: str = "data") -> Raw:
    """Return an object as the properties; any other value becomes a member of them, beside its type."""
    if data.startswith(b"{"):
        return Raw(data)
    if data == NULL:
        return Raw()
    members: dict[str, object] = {name: Raw(data)}
    if content_type:
        members["datacontenttype"] = content_type
    return Raw(_encode(members))
