"""Split a body in one of Weir's own shapes into events: an object, an array, an envelope or NDJSON. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from weir.gateway.http.error_codes import Problem, ProblemError
from weir.gateway.ingest import lenient_json, split_body
from weir.gateway.ingest.json_number_range import overflows
from weir.gateway.ingest.parsed_events import BodyLimits
from weir.gateway.ingest.validation import MAX_DEPTH, TOO_LARGE_A_NUMBER, Shared, is_deeper

EXPANDED = 8  # the copies of a shared context take at most this many times the body limit
BOM = b"\xef\xbb\xbf"


class SplitEvents(NamedTuple):
    """The events of a body, each with the client's own bytes; none is decoded yet."""

    events: Sequence[bytes | Raw]
    shared: Shared


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


def split_events(body: bytes, is_ndjson: bool, max_events: int) -> SplitEvents:
    """Split a body into its events, none of them decoded. `ProblemError` if that cannot be done."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as fault:
            raise ProblemError(split_body.not_utf8(fault)) from None
        body = body.removeprefix(BOM)
    body = body.strip(b" \t\r\n")
    if not body:
        text = "Send an event object, an array of event objects, or NDJSON."
        raise ProblemError(Problem("empty_body", text))
    try:
        sent = _split_lines(body, max_events) if is_ndjson else _split_json(body, max_events)
    except msgspec.DecodeError as fault:
        despite = None if is_ndjson else _split_masked(body, max_events)
        if despite is None:
            raise ProblemError(split_body.why_malformed(body, fault)) from None
        sent = despite
    except RecursionError:
        raise ProblemError(split_body.TOO_DEEP) from None
    if not sent.events:
        text = "The body is well-formed but contains no event."
        raise ProblemError(Problem("no_events", text))
    require_few(len(sent.events), max_events)
    return sent


def require_few(count: int, max_events: int) -> None:
    """Raise `ProblemError` if a request has more events than it may have."""
    if count > max_events:
        raise ProblemError(too_many(max_events))


def too_many(max_events: int) -> Problem:
    text = f"A request may have at most {max_events:,} events: send several requests."
    return Problem("too_many_events", text)


def _split_json(body: bytes, max_events: int) -> SplitEvents:
    first = body[:1]
    if first == b"[":
        return SplitEvents(_decode_list(body), Shared(b"", body))
    if first != b"{":
        _decode_raw(body)
        text = "The body must be an object, an array of objects, or NDJSON."
        raise ProblemError(Problem("invalid_body", text))
    if b"\n" in body and _is_json(body[: body.index(b"\n")]):
        return _split_lines(body, max_events)
    if b'"events"' in body:
        return _split_envelope(body)
    _decode_raw(body)
    return SplitEvents([body], Shared(b"", body))


def _split_masked(body: bytes, max_events: int) -> SplitEvents | None:
    """Split a body even if an event is not JSON; validation rejects that event. None: masking does not help."""
    masked = lenient_json.masked(body)
    if masked == body:
        return None
    try:
        sent = _split_json(masked, max_events)
    except msgspec.DecodeError:
        return None
    except RecursionError:
        raise ProblemError(split_body.TOO_DEEP) from None
    events = lenient_json.unmasked(map(bytes, sent.events), masked, body)
    if events == [body] and lenient_json.has_not_numbers(body):
        return None  # a single event: nothing to split
    if lenient_json.is_outside(events, body):
        text = "`context` contains half a surrogate pair, NaN or an infinity."
        raise ProblemError(Problem("invalid_context", text, "context"))
    return SplitEvents(events, sent.shared)


def _split_lines(body: bytes, max_events: int) -> SplitEvents:
    """Split NDJSON. A line that is not JSON is rejected alone, later."""
    # blank lines are allowed, but not any number of them
    if body.count(b"\n") >= 2 * max_events:
        raise ProblemError(too_many(max_events))
    lines = [line for line in (line.strip() for line in body.split(b"\n")) if line]
    return SplitEvents(lines, Shared(b"", body))


def _split_envelope(body: bytes) -> SplitEvents:
    try:
        envelope = _decode_envelope(body)
    except msgspec.ValidationError as fault:
        found = _decode_any(body)
        if found.events is UNSET or found.event is not UNSET:
            # a single event that contains "events" somewhere
            return SplitEvents([body], Shared(b"", body))
        field = "events" if "$.events" in str(fault) else ""
        text = "An envelope must be an object with `events`, an array, and `context`, an object"
        raise ProblemError(Problem("invalid_body", f"{text}: {fault}.", field)) from None
    return SplitEvents(envelope.events, shared_of(bytes(envelope.context), body))


def shared_of(context: bytes, body: bytes) -> Shared:
    """Return what the events of a body share. `ProblemError` if its `context` is not valid as part of an event."""
    if context in (b"", b"null", b"{}"):
        return Shared(b"", body)
    if not context.startswith(b"{"):
        raise ProblemError(Problem("invalid_context", "`context` must be an object.", "context"))
    # the event object takes one level, as it does above an event's own context
    if is_deeper(context, MAX_DEPTH - 1):
        text = f"`context` is nested deeper than {MAX_DEPTH} levels."
        raise ProblemError(Problem("invalid_context", text, "context"))
    shared = Shared(context, body)
    if shared.may_overflow and overflows(context):
        text = f"`context` {TOO_LARGE_A_NUMBER}."
        raise ProblemError(Problem("invalid_context", text, "context"))
    return shared


def require_room(shared: Shared, count: int, limits: BodyLimits) -> None:
    """Raise `ProblemError` if a shared context is too large for the number of events."""
    if len(shared.raw) * count > EXPANDED * limits.body_bytes:
        text = f"`context` has {len(shared.raw):,} bytes for {count:,} events; send fewer events at once."
        raise ProblemError(Problem("context_too_large", text))


def _is_json(line: bytes) -> bool:
    try:
        _decode_raw(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
