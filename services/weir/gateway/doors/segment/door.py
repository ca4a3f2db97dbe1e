"""The doors `/v1/track`, `/v1/batch` and their kin: the calls that Segment's clients make. Pure."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from weir.gateway.doors.door import (
    BodyLimits,
    Credentials,
    Door,
    Outcome,
    ParsedEvents,
    Refused,
    RequestMeta,
)
from weir.gateway.doors.events.door import expanding, message, shared_of
from weir.gateway.doors.segment.parser import CALLS, message_id, read_call
from weir.gateway.doors.segment.times import time_of
from weir.gateway.http import openapi, request_headers
from weir.gateway.http.responses import JSON, Answer, problem
from weir.gateway.ingest import lenient_json
from weir.gateway.ingest.error_codes import PROBLEMS, Problem, Refusal
from weir.gateway.ingest.split_body import parse_body
from weir.gateway.ingest.validation import Event, SentEvent, Shared, check_sent

# What Weir's checks speak of, as the clients write it.
WORDS = {
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "id": "messageId",
    "occurred_at": "timestamp",
}
OWN_NAMES = frozenset({"page_view", "screen_view", "group", "alias"})  # that nobody chose
SHORT = {"track": "t", "identify": "i", "page": "p", "screen": "s", "group": "g", "alias": "a"}

_encode = msgspec.json.Encoder().encode
# To the value's end, or to the body's where it is cut off.
_mask_keys = re.compile(rb'("writeKey"\s*+:\s*+")[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL).sub


class _Batch(Struct, rename="camel"):
    batch: list[Raw]
    context: Raw = Raw()
    sent_at: Raw = Raw()
    write_key: Raw = Raw()


class _Keyed(Struct, rename="camel"):
    write_key: Raw = Raw()


_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_keyed = msgspec.json.Decoder(_Keyed).decode
_decode_key = msgspec.json.Decoder(str).decode


class Calls(ParsedEvents):
    """The calls of a body, each by its own bytes; decoded when checked."""

    calls: Sequence[bytes | Raw] = ()
    call_type: str = ""  # empty: each says its own
    sent_at: int | None = None  # of the whole batch, by the client's clock

    def __len__(self) -> int:
        return len(self.calls)

    def checked(self, now_ms: int) -> Iterator[tuple[bytes, Event | Refusal]]:
        shared, call_type, sent_at = self.shared, self.call_type, self.sent_at
        for call in self.calls:
            raw, read = read_call(bytes(call), call_type, now_ms, sent_at)
            event: Event | Refusal | SentEvent = read
            if isinstance(event, SentEvent):
                event = check_sent(event, raw, shared, now_ms, None, True, self.clamps_future)
            if isinstance(event, Refusal):
                event = event._replace(field=WORDS.get(event.field, event.field))
            yield raw, event

    def whole(self, raw: bytes) -> bytes:
        return self._enveloped(b"batch", raw)

    def client_id(self, index: int) -> str:
        return message_id(bytes(self.calls[index]))


def _operation(summary: str, required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "required": required}
    return openapi.post(
        f"{summary} The key is the user name of `Authorization: Basic`, or the body's `writeKey`.",
        {"application/json": {"schema": schema}},
        responses={
            "200": {"description": '`{"success": true}`: on all in-sync replicas; `rejected` names'
                    " those of a batch that were refused."},
            "default": {"description": '`{"success": false, "code", "message", "error": {…}}`'},
        },
    )  # fmt: skip


class BatchDoor(Door):
    """Takes calls of every type, each for itself."""

    name = "segment"
    operation = _operation("Segment's calls, each with its `type`.", ["batch"])

    def claim(self, asked: RequestMeta) -> Credentials | None:
        key = request_headers.key_of(asked.headers, asked.query)
        return Credentials(key) if key else None

    def read(self, asked: RequestMeta, body: bytes, caps: BodyLimits) -> ParsedEvents | Problem:
        parcel = parse_body(body, lambda body: self.tell_apart(body, caps), _misshapen)
        if isinstance(parcel, Problem):
            if parcel.code == "invalid_utf8":
                return parcel  # nor can it be read who sends
            if not body.strip():
                parcel = parcel._replace(code="empty_body")
            parcel = ParsedEvents(problem=parcel)
        parcel.claim = self.claim(asked) or _claim_of(body)
        return parcel

    def mask(self, payload: bytes) -> bytes:
        """Clients write their key into bodies even where a header has it."""
        return _mask_keys(rb"\1***", payload)

    def tell_apart(self, body: bytes, caps: BodyLimits) -> ParsedEvents | Problem:
        told = lenient_json.decoded(body, _decode_batch)
        found = told.found
        if not found.batch:
            return Problem("no_events", "`batch` is empty.", "batch")
        if len(found.batch) > caps.events:
            text = f"A request takes at most {caps.events:,} calls: send several."
            return Problem("too_many_events", text)
        shared = shared_of(bytes(found.context), body)
        if isinstance(shared, Problem):
            return shared
        if told.fault and shared.raw and shared.raw not in body:
            text = "`context` has half a surrogate pair, NaN or an infinity."
            return Problem("invalid_context", text, "context")
        if told.fault and bytes(found.sent_at) not in body:
            return Problem("invalid_json", "`sentAt` is not JSON.", "sentAt")
        calls = told.own(found.batch)
        parcel = Calls(
            shared=shared,
            uncased_names=OWN_NAMES,
            clamps_future=True,
            calls=calls,
            sent_at=time_of(bytes(found.sent_at)),
        )
        return expanding(shared, len(calls), caps) or parcel

    def reply(self, asked: RequestMeta, parcel: ParsedEvents, outcome: Outcome) -> Answer:
        rejected = [_told(one) for one in outcome.refused]
        if not outcome.event_ids:
            return _failure(400, rejected[0]["code"], rejected[0]["message"], rejected=rejected)
        told: dict[str, Any] = {"success": True}
        if rejected:
            told["rejected"] = rejected
        if outcome.warnings:
            told["warnings"] = outcome.warnings
        return Answer(200, _encode(told))

    def refuse(self, asked: RequestMeta, trouble: Problem, headers: bytes = b"") -> Answer:
        if trouble.code == "unauthorized":
            text = (
                "Send it as the user name of `Authorization: Basic`, or as the body's `writeKey`."
            )
            trouble = trouble._replace(detail=text)
        text = f"{PROBLEMS[trouble.code].title}. {trouble.detail}"
        answer = problem(trouble, headers)
        return answer._replace(body=_failure(0, trouble.code, text).body, kind=JSON)


class CallDoor(BatchDoor):
    """Takes one call, of the type that its path says."""

    operation = _operation("Segment's call of one type.", [])

    def __init__(self, call_type: str) -> None:
        self.call_type = call_type

    def tell_apart(self, body: bytes, caps: BodyLimits) -> ParsedEvents | Problem:
        call = body.strip()
        if not call:
            return Problem("empty_body", f"Send a {self.call_type} call, a JSON object.")
        return Calls(
            shared=Shared(b"", body),
            uncased_names=OWN_NAMES,
            clamps_future=True,
            calls=[call],
            call_type=self.call_type,
        )


BATCH = BatchDoor()
# By what follows `/v1/`: Segment's documented paths, and the letters that its browser client says.
DOORS: dict[str, Door] = {"batch": BATCH, "import": BATCH, "b": BATCH}
for _type in CALLS:
    DOORS[_type] = DOORS[SHORT[_type]] = CallDoor(_type)


def _claim_of(body: bytes) -> Credentials:
    """Nobody's, if the body does not say or cannot be read."""
    try:
        told = bytes(_decode_keyed(lenient_json.masked(body)).write_key)
        return Credentials(_decode_key(told).strip())
    except (msgspec.DecodeError, RecursionError):
        return Credentials()


def _misshapen(fault: str) -> Problem:
    text = f"A batch is an object with `batch`, an array of calls: {fault}."
    return Problem("invalid_body", text, "batch" if "batch" in fault else "")


def _told(one: Refused) -> dict[str, Any]:
    refusal = one.refusal
    return {
        "index": one.index,
        "messageId": one.client_id or None,
        "code": refusal.code,
        "field": refusal.field or None,
        "message": message(refusal),
    }


def _failure(status: int, code: str, text: str, **members: object) -> Answer:
    """`code` and `message` are also where Segment's own clients look for them."""
    error = {"code": code, "message": text}
    return Answer(status, _encode({"success": False, **error, "error": error, **members}))
