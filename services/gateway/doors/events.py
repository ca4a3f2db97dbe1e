"""The door `POST /v1/events`: an object, an array, an envelope or NDJSON in; the 202's JSON out. Pure."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from services.gateway.numbers import overflows
from services.gateway.refusals import Problem, Refusal, quoted
from services.gateway.rules import MAX_DEPTH, TOO_LARGE_A_NUMBER, Shared, is_deeper

DOOR = "events"
BOM = b"\xef\xbb\xbf"


class Sent(NamedTuple):
    """The events of a body as the client wrote them, each by its own bytes."""

    events: Sequence[bytes | Raw]
    shared: Shared


class Refused(Struct, frozen=True):
    """One event of the request that was refused, by its place."""

    index: int
    client_id: str  # the client's own key or id; empty: none could be read
    refusal: Refusal


class _Envelope(Struct, forbid_unknown_fields=True):
    events: list[Raw]
    context: Raw = Raw()


class _AnyObject(Struct):
    events: Raw | UnsetType = UNSET
    event: Raw | UnsetType = UNSET


_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_any = msgspec.json.Decoder(_AnyObject).decode
_decode_raw = msgspec.json.Decoder(Raw).decode
_quote = msgspec.json.Encoder().encode
_surrogate = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}").sub


def read_events(body: bytes, is_ndjson: bool, max_events: int) -> Sent | Problem:
    """Tell a body's events apart. A `Problem` when that cannot be done; none of them is checked yet."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as fault:
            return Problem("invalid_utf8", f"The body must be UTF-8; byte {fault.start} is not.")
        body = body.removeprefix(BOM)
    body = body.strip(b" \t\r\n")
    if not body:
        return Problem("empty_body", "Send an event object, an array of them, or NDJSON.")
    try:
        sent = _read_lines(body, max_events) if is_ndjson else _read_json(body, max_events)
    except msgspec.DecodeError as fault:
        despite = None if is_ndjson else _read_despite_surrogates(body, max_events)
        if despite is None:
            return Problem("invalid_json", f"{fault}.")
        sent = despite
    except RecursionError:
        return Problem("too_deep", f"JSON is nested at most {MAX_DEPTH} levels deep.")
    if isinstance(sent, Sent):
        if not sent.events:
            return Problem("no_events", "The body is well-formed, but there is no event in it.")
        if len(sent.events) > max_events:
            return _too_many(max_events)
    return sent


def _too_many(max_events: int) -> Problem:
    return Problem(
        "too_many_events", f"A request takes at most {max_events:,} events: send several."
    )


def _read_json(body: bytes, max_events: int) -> Sent | Problem:
    first = body[:1]
    if first == b"[":
        return Sent(_decode_list(body), Shared(b"", body))
    if first != b"{":
        _decode_raw(body)
        return Problem("invalid_body", "The body must be an object, an array of them, or NDJSON.")
    if b"\n" in body and _is_json(body[: body.index(b"\n")]):
        return _read_lines(body, max_events)
    if b'"events"' in body:
        return _read_envelope(body)
    _decode_raw(body)
    return Sent([body], Shared(b"", body))


def _read_despite_surrogates(body: bytes, max_events: int) -> Sent | Problem | None:
    """Tell events apart though one has half a surrogate pair, as a cut emoji leaves it. None: it is not that.

    For telling apart alone, every such escape is replaced by one of the same length; each event is
    then its own bytes of the body again, and refused by its own check.
    """
    told = _surrogate(rb"\\ufffd", body)
    if told == body:
        return None
    try:
        sent = _read_json(told, max_events)
    except msgspec.DecodeError:
        return None
    if isinstance(sent, Problem):
        return sent
    if sent.shared.raw and sent.shared.raw not in body:
        return Problem("invalid_context", "`context` has half a surrogate pair.", "context")
    events: list[bytes | Raw] = []
    at = 0
    for event in map(bytes, sent.events):
        at = told.index(event, at)
        events.append(body[at : at + len(event)])
        at += len(event)
    return Sent(events, sent.shared)


def _read_lines(body: bytes, max_events: int) -> Sent | Problem:
    """NDJSON. A line that is not JSON is that event's fault alone."""
    if body.count(b"\n") >= 2 * max_events:  # blank lines may be among them, within reason
        return _too_many(max_events)
    lines = [line for line in (line.strip() for line in body.split(b"\n")) if line]
    return Sent(lines, Shared(b"", body))


def _read_envelope(body: bytes) -> Sent | Problem:
    try:
        envelope = _decode_envelope(body)
    except msgspec.ValidationError as fault:
        found = _decode_any(body)
        if found.events is UNSET or found.event is not UNSET:
            return Sent([body], Shared(b"", body))  # an event that has "events" somewhere inside
        field = "events" if "$.events" in str(fault) else ""
        return Problem(
            "invalid_body",
            f"An envelope is an object with `events`, an array, and `context`, an object: {fault}.",
            field,
        )
    return _with_context(envelope.events, bytes(envelope.context), body)


def _with_context(events: list[Raw], context: bytes, body: bytes) -> Sent | Problem:
    if context in (b"", b"null", b"{}"):
        return Sent(events, Shared(b"", body))
    if not context.startswith(b"{"):
        return Problem("invalid_context", "`context` must be an object.", "context")
    # one level is the event's own, as for a context that an event brings itself
    if is_deeper(context, MAX_DEPTH - 1):
        return Problem("invalid_context", f"nested deeper than {MAX_DEPTH} levels", "context")
    shared = Shared(context, body)
    if shared.may_overflow and overflows(context):
        return Problem("invalid_context", f"`context` {TOO_LARGE_A_NUMBER}.", "context")
    return Sent(events, shared)


def _is_json(line: bytes) -> bool:
    try:
        _decode_raw(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def reply(event_ids: Sequence[str], refused: Sequence[Refused]) -> bytes:
    """The 202's body: what was accepted, in order, and what was not, by its place."""
    ids = '","'.join(event_ids)
    ids = f'"{ids}"' if ids else ""
    rejected = b",".join(map(_rejected, refused)).decode() if refused else ""
    return f'{{"accepted":{len(event_ids)},"rejected":[{rejected}],"event_ids":[{ids}]}}'.encode()


def rejected_list(refused: Sequence[Refused]) -> list[dict[str, object]]:
    return [
        {
            "index": one.index,
            "id": one.client_id or None,
            "code": one.refusal.code,
            "field": one.refusal.field or None,
            "message": message(one.refusal),
        }
        for one in refused
    ]


def _rejected(one: Refused) -> bytes:
    return _quote(rejected_list([one])[0])


def message(refusal: Refusal) -> str:
    """A refusal as one sentence."""
    field = refusal.field if refusal.field.isidentifier() else quoted(refusal.field)
    return f"{field} {refusal.text}" if refusal.field else refusal.text


class _Named(Struct):
    id: Raw = Raw()
    idempotency_key: Raw = Raw()


_decode_named = msgspec.json.Decoder(_Named).decode
_decode_text = msgspec.json.Decoder(str).decode


def client_id(raw: bytes) -> str:
    """The client's own name for a refused event, if one can be read; for its eyes only."""
    try:
        named = _decode_named(raw)
    except (msgspec.DecodeError, RecursionError):
        return ""
    for part in (bytes(named.idempotency_key), bytes(named.id)):
        if part.startswith(b'"'):
            return _decode_text(part)[:255]
        if part not in (b"", b"null"):
            return part[:255].decode(errors="replace")
    return ""
