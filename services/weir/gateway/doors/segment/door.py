"""The doors `/v1/track`, `/v1/batch` and so on, for the calls of Segment's clients. Pure."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from weir.gateway.doors.answers import message
from weir.gateway.doors.door import LIMITS_AGAIN, Door
from weir.gateway.doors.segment.parser import CALLS, message_id, read_call
from weir.gateway.doors.segment.times import time_of
from weir.gateway.http import openapi, request_headers
from weir.gateway.http.error_codes import PROBLEMS, Problem, ProblemError
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import JSON, Answer, problem
from weir.gateway.ingest import lenient_json
from weir.gateway.ingest.parsed_events import (
    BodyLimits,
    BodyProblemError,
    Credentials,
    LazyEvents,
    Outcome,
    ParsedEvent,
    ParsedEvents,
    Refused,
)
from weir.gateway.ingest.split_body import has_member, malformed, parse_body
from weir.gateway.ingest.split_events import require_few, require_room, shared_of
from weir.gateway.ingest.validation import Policy, Shared

# The clients' names of Weir's fields, for refusals.
WORDS = {
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "id": "messageId",
    "occurred_at": "timestamp",
}
OWN_NAMES = frozenset({"page_view", "screen_view", "group", "alias"})  # not chosen by the source
SHORT = {"track": "t", "identify": "i", "page": "p", "screen": "s", "group": "g", "alias": "a"}

_encode = msgspec.json.Encoder().encode
# Matches up to the end of the value, or of the payload if the value is cut off.
_mask_keys = re.compile(rb'("writeKey"\s*+:\s*+")[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL).sub


class _SentBatch(Struct, rename="camel"):
    batch: list[Raw]
    context: Raw = Raw()
    sent_at: Raw = Raw()
    write_key: Raw = Raw()


class _Keyed(Struct, rename="camel"):
    write_key: Raw = Raw()


POLICY = Policy(
    own_names=None,
    uncased_names=OWN_NAMES,
    spaced_names=True,
    clamps_future=True,
    field_names=WORDS,
)

_decode_batch = msgspec.json.Decoder(_SentBatch).decode
_decode_keyed = msgspec.json.Decoder(_Keyed).decode
_decode_key = msgspec.json.Decoder(str).decode


def _operation(summary: str, required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "required": required}
    return openapi.post(
        f"{summary} Send the key as the user name of `Authorization: Basic`, or in the body as `writeKey`.",
        {"application/json": {"schema": schema}},
        responses={
            "200": {"description": '`{"success": true}`: the accepted calls are on all in-sync'
                    " replicas; `rejected` names the rejected calls of a batch."},
            "default": {"description": '`{"success": false, "code", "message", "error": {…}}`'},
        },
    )  # fmt: skip


class SegmentBatchDoor(Door):
    """The door for batches of calls of every type; each call is accepted or rejected by itself."""

    name = "segment"
    operation = _operation("Segment's calls, each with its `type`.", ["batch"])

    def credentials(self, request: RequestMeta) -> Credentials | None:
        key = request_headers.key_of(request.headers, request.query)
        return Credentials(key) if key else None

    def parse(self, request: RequestMeta, body: bytes, limits: BodyLimits) -> ParsedEvents:
        try:
            events = parse_body(
                body, lambda body: self.calls(body, limits, request.now_ms), _misshapen
            )
        except ProblemError as error:
            problem = error.problem
            if problem.code == "invalid_utf8":
                raise  # the key in the body cannot be read either
            if not body.strip():
                problem = problem._replace(code="empty_body")
            raise BodyProblemError(problem, self._whose(request, body)) from None
        events.credentials = self._whose(request, body)
        return events

    def _whose(self, request: RequestMeta, body: bytes) -> Credentials:
        return self.credentials(request) or _credentials_in(body)

    def parse_again(self, payload: bytes, now_ms: int) -> ParsedEvents:
        """Parse a call that has its `type`, or a batch of calls."""
        body = payload if has_member(payload, "batch") else b'{"batch":[%b]}' % payload
        return parse_body(body, lambda whole: BATCH.calls(whole, LIMITS_AGAIN, now_ms), malformed)

    def client_id(self, parsed: ParsedEvent) -> str:
        return message_id(parsed.raw)

    def redact(self, payload: bytes) -> bytes:
        """Mask `writeKey`: clients write their key into the body even if a header has it."""
        return _mask_keys(rb"\1***", payload)

    def calls(self, body: bytes, limits: BodyLimits, now_ms: int) -> ParsedEvents:
        """Return the calls in a body, each with its own bytes. Raise `ProblemError`, or as msgspec does."""
        decoded = lenient_json.decoded(body, _decode_batch)
        found = decoded.found
        if not found.batch:
            raise ProblemError(Problem("no_events", "`batch` is empty.", "batch"))
        require_few(len(found.batch), limits.events)
        shared = shared_of(bytes(found.context), body)
        if decoded.fault and shared.raw and shared.raw not in body:
            text = "`context` contains half a surrogate pair, NaN or an infinity."
            raise ProblemError(Problem("invalid_context", text, "context"))
        if decoded.fault and bytes(found.sent_at) not in body:
            raise ProblemError(Problem("invalid_json", "`sentAt` is not valid JSON.", "sentAt"))
        calls = decoded.own(found.batch)
        require_room(shared, len(calls), limits)
        return parsed(calls, shared, "", now_ms, time_of(bytes(found.sent_at)))

    def reply(self, request: RequestMeta, events: ParsedEvents, outcome: Outcome) -> Answer:
        rejected = [_rejected_entry(one) for one in outcome.refused]
        if not outcome.event_ids:
            return _failure(400, rejected[0]["code"], rejected[0]["message"], rejected=rejected)
        members: dict[str, Any] = {"success": True}
        if rejected:
            members["rejected"] = rejected
        if outcome.warnings:
            members["warnings"] = outcome.warnings
        return Answer(200, _encode(members))

    def refuse(self, request: RequestMeta, trouble: Problem, headers: bytes = b"") -> Answer:
        if trouble.code == "unauthorized":
            text = "Send the key as the user name of `Authorization: Basic`, or in the body as `writeKey`."
            trouble = trouble._replace(detail=text)
        text = f"{PROBLEMS[trouble.code].title}. {trouble.detail}"
        answer = problem(trouble, headers)
        return answer._replace(body=_failure(0, trouble.code, text).body, kind=JSON)


class SegmentCallDoor(SegmentBatchDoor):
    """The door for one call; the path says its type."""

    operation = _operation("One of Segment's calls; the path says its type.", [])

    def __init__(self, call_type: str) -> None:
        self.call_type = call_type

    def calls(self, body: bytes, limits: BodyLimits, now_ms: int) -> ParsedEvents:
        call = body.strip()
        if not call:
            text = f"Send a JSON object: a call of the type {self.call_type}."
            raise ProblemError(Problem("empty_body", text))
        return parsed([call], Shared(b"", body), self.call_type, now_ms)


def parsed(
    calls: Sequence[bytes], shared: Shared, call_type: str, now_ms: int, sent_at: int | None = None
) -> ParsedEvents:
    """Parse calls. `call_type`: empty if each has its `type`; `sent_at`: of the batch, by the client's clock (ms)."""

    def parse(call: bytes) -> ParsedEvent:
        return ParsedEvent(*read_call(call, call_type, now_ms, sent_at))

    return ParsedEvents(LazyEvents(calls, parse), shared, POLICY, envelope=b"batch")


BATCH = SegmentBatchDoor()
# By the path after `/v1/`: Segment's documented paths, and the one-letter paths of its browser client.
DOORS: dict[str, Door] = {"batch": BATCH, "import": BATCH, "b": BATCH}
for _type in CALLS:
    DOORS[_type] = DOORS[SHORT[_type]] = SegmentCallDoor(_type)


def _credentials_in(body: bytes) -> Credentials:
    """Return the credentials in a body; empty ones if it has no key or cannot be read."""
    try:
        key = bytes(_decode_keyed(lenient_json.masked(body)).write_key)
        return Credentials(_decode_key(key).strip())
    except (msgspec.DecodeError, RecursionError):
        return Credentials()


def _misshapen(fault: str) -> Problem:
    text = f"A batch must be an object with `batch`, an array of calls: {fault}."
    return Problem("invalid_body", text, "batch" if "batch" in fault else "")


def _rejected_entry(one: Refused) -> dict[str, Any]:
    refusal = one.refusal
    return {
        "index": one.index,
        "messageId": one.client_id or None,
        "code": refusal.code,
        "field": refusal.field or None,
        "message": message(refusal),
    }


def _failure(status: int, code: str, text: str, **members: object) -> Answer:
    """Return an error; `code` and `message` are also at the top level, where Segment's clients look for them."""
    error = {"code": code, "message": text}
    return Answer(status, _encode({"success": False, **error, "error": error, **members}))
