"""The door `POST /v1/events`: an object, an array, an envelope or NDJSON in; the 202's JSON out. Pure."""

from collections.abc import Iterator, Sequence

import msgspec
from aiohttp import hdrs
from msgspec import UNSET, Raw, Struct, UnsetType

from weir.gateway.doors.door import BodyLimits, Door, Outcome, ParsedEvents, Refused, RequestMeta
from weir.gateway.http import openapi, request_headers
from weir.gateway.http.responses import Answer, problem
from weir.gateway.ingest import lenient_json, split_body
from weir.gateway.ingest.error_codes import Problem, Refusal, quoted
from weir.gateway.ingest.json_number_range import overflows
from weir.gateway.ingest.validation import (
    MAX_DEPTH,
    TOO_LARGE_A_NUMBER,
    Event,
    Shared,
    check_event,
    is_deeper,
)

EXPANDED = 8  # a shared context may make a request this many times its cap, no more
BOM = b"\xef\xbb\xbf"


class EventsDoor(Door):
    """Weir's own door."""

    name = "events"
    operation = openapi.post(
        "Send one event or many. One bad event never refuses its neighbours.",
        {
            "application/json": {"schema": openapi.BODY},
            "application/x-ndjson": {"schema": {"type": "string"}},
            "text/plain": {"schema": openapi.BODY},
        },
    )

    def takes(self, media: request_headers.Media) -> bool:
        return media.taken

    def read(self, asked: RequestMeta, body: bytes, caps: BodyLimits) -> ParsedEvents | Problem:
        is_ndjson = request_headers.media_of(asked.headers.get(hdrs.CONTENT_TYPE, "")).is_ndjson
        sent = read_events(body, is_ndjson, caps.events)
        if isinstance(sent, Problem):
            return sent
        return expanding(sent.shared, len(sent), caps) or sent

    def reply(self, asked: RequestMeta, parcel: ParsedEvents, outcome: Outcome) -> Answer:
        if outcome.event_ids:
            return Answer(202, reply(outcome))
        return without_valid_event(outcome)


DOOR = EventsDoor()


class Sent(ParsedEvents):
    """The events of a body as the client wrote them, each by its own bytes; decoded when checked."""

    events: Sequence[bytes | Raw] = ()

    def __len__(self) -> int:
        return len(self.events)

    def checked(self, now_ms: int) -> Iterator[tuple[bytes, Event | Refusal]]:
        shared = self.shared
        for one in self.events:
            raw = bytes(one)
            yield raw, check_event(raw, shared, now_ms)

    def client_id(self, index: int) -> str:
        return client_id(bytes(self.events[index]))


def sent_of(events: Sequence[bytes | Raw], shared: Shared) -> Sent:
    return Sent(events=events, shared=shared)


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


def read_events(body: bytes, is_ndjson: bool, max_events: int) -> Sent | Problem:
    """Tell a body's events apart. A `Problem` when that cannot be done; none of them is checked yet."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as fault:
            return split_body.not_utf8(fault)
        body = body.removeprefix(BOM)
    body = body.strip(b" \t\r\n")
    if not body:
        return Problem("empty_body", "Send an event object, an array of them, or NDJSON.")
    try:
        sent = _read_lines(body, max_events) if is_ndjson else _read_json(body, max_events)
    except msgspec.DecodeError as fault:
        despite = None if is_ndjson else _read_masked(body, max_events)
        if despite is None:
            return split_body.why_malformed(body, fault)
        sent = despite
    except RecursionError:
        return split_body.TOO_DEEP
    if isinstance(sent, Sent):
        if not sent.events:
            return Problem("no_events", "The body is well-formed, but there is no event in it.")
        if len(sent.events) > max_events:
            return too_many(max_events)
    return sent


def too_many(max_events: int) -> Problem:
    return Problem(
        "too_many_events", f"A request takes at most {max_events:,} events: send several."
    )


def _read_json(body: bytes, max_events: int) -> Sent | Problem:
    first = body[:1]
    if first == b"[":
        return sent_of(_decode_list(body), Shared(b"", body))
    if first != b"{":
        _decode_raw(body)
        return Problem("invalid_body", "The body must be an object, an array of them, or NDJSON.")
    if b"\n" in body and _is_json(body[: body.index(b"\n")]):
        return _read_lines(body, max_events)
    if b'"events"' in body:
        return _read_envelope(body)
    _decode_raw(body)
    return sent_of([body], Shared(b"", body))


def _read_masked(body: bytes, max_events: int) -> Sent | Problem | None:
    """Tell events apart though one holds what is no JSON; its own check refuses it. None: it is not that."""
    told = lenient_json.masked(body)
    if told == body:
        return None
    try:
        sent = _read_json(told, max_events)
    except msgspec.DecodeError:
        return None
    except RecursionError:
        return split_body.TOO_DEEP
    if isinstance(sent, Problem):
        return sent
    events = lenient_json.unmasked(map(bytes, sent.events), told, body)
    if events == [body] and lenient_json.has_not_numbers(body):
        return None  # nothing to tell apart
    if lenient_json.is_outside(events, body):
        text = "`context` has half a surrogate pair, NaN or an infinity."
        return Problem("invalid_context", text, "context")
    return sent_of(events, sent.shared)


def _read_lines(body: bytes, max_events: int) -> Sent | Problem:
    """NDJSON. A line that is not JSON is that event's fault alone."""
    if body.count(b"\n") >= 2 * max_events:  # blank lines may be among them, within reason
        return too_many(max_events)
    lines = [line for line in (line.strip() for line in body.split(b"\n")) if line]
    return sent_of(lines, Shared(b"", body))


def _read_envelope(body: bytes) -> Sent | Problem:
    try:
        envelope = _decode_envelope(body)
    except msgspec.ValidationError as fault:
        found = _decode_any(body)
        if found.events is UNSET or found.event is not UNSET:
            return sent_of([body], Shared(b"", body))  # an event that has "events" somewhere inside
        field = "events" if "$.events" in str(fault) else ""
        return Problem(
            "invalid_body",
            f"An envelope is an object with `events`, an array, and `context`, an object: {fault}.",
            field,
        )
    return _with_context(envelope.events, bytes(envelope.context), body)


def _with_context(events: list[Raw], context: bytes, body: bytes) -> Sent | Problem:
    shared = shared_of(context, body)
    return shared if isinstance(shared, Problem) else sent_of(events, shared)


def shared_of(context: bytes, body: bytes) -> Shared | Problem:
    """What the events of a body share, if its `context` may stand under theirs."""
    if context in (b"", b"null", b"{}"):
        return Shared(b"", body)
    if not context.startswith(b"{"):
        return Problem("invalid_context", "`context` must be an object.", "context")
    # one level is the event's own, as for a context that an event brings itself
    if is_deeper(context, MAX_DEPTH - 1):
        return Problem("invalid_context", f"nested deeper than {MAX_DEPTH} levels", "context")
    shared = Shared(context, body)
    if shared.may_overflow and overflows(context):
        return Problem("invalid_context", f"`context` {TOO_LARGE_A_NUMBER}.", "context")
    return shared


def expanding(shared: Shared, count: int, caps: BodyLimits) -> Problem | None:
    """Why a shared context may not stand under so many events, if so."""
    if len(shared.raw) * count <= EXPANDED * caps.body_bytes:
        return None
    text = f"{len(shared.raw):,} bytes of context for {count:,} events."
    return Problem("context_too_large", text)


def _is_json(line: bytes) -> bool:
    try:
        _decode_raw(line)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def reply(outcome: Outcome) -> bytes:
    """The 202's body: what was accepted, in order, and what was not, by its place."""
    ids = '","'.join(outcome.event_ids)
    ids = f'"{ids}"' if ids else ""
    refused = b",".join(map(_rejected, outcome.refused)).decode() if outcome.refused else ""
    warned = f',"warnings":{_quote(outcome.warnings).decode()}' if outcome.warnings else ""
    count = len(outcome.event_ids)
    return f'{{"accepted":{count},"rejected":[{refused}],"event_ids":[{ids}]{warned}}}'.encode()


def without_valid_event(outcome: Outcome) -> Answer:
    """The answer to a request all of whose events were refused."""
    return problem(
        Problem("no_valid_event", message(outcome.refused[0].refusal)),
        accepted=0,
        rejected=rejected_list(outcome.refused),
        event_ids=[],
    )


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
