"""The doors `POST /v2/event/` and `POST /v2/bulk/event/`: signed events of SuprSend's SDKs. Pure."""

import msgspec
from aiohttp import hdrs

from weir.core.registry import DAY_SECONDS, Source
from weir.gateway.doors.door import Door
from weir.gateway.doors.suprsend import signing
from weir.gateway.doors.suprsend.parser import NO_ATTACHMENT, OWN_NAMES, payload_of, read_event
from weir.gateway.http import openapi, request_headers
from weir.gateway.http.error_codes import PROBLEMS, Problem, ProblemError, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import JSON, Answer, problem
from weir.gateway.ingest.parsed_events import (
    BodyLimits,
    Credentials,
    Outcome,
    ParsedEvent,
    ParsedEvents,
)
from weir.gateway.ingest.split_body import json_in
from weir.gateway.ingest.split_events import split_events
from weir.gateway.ingest.validation import Policy, Shared

BEARER = "bearer "
STATUSES = {NO_ATTACHMENT: 404, "too_large": 413}  # of a refused event; others: 400
# The SDK's names of Weir's fields, for refusals.
FIELDS = {
    "user_id": "distinct_id",
    "id": "$insert_id",
    "idempotency_key": "$idempotency_key",
    "occurred_at": "$time",
}
POLICY = Policy(OWN_NAMES, spaced_names=True, clamps_future=True, field_names=FIELDS)
EVENT_SCHEMA = {
    "type": "object",
    "required": ["event", "distinct_id"],
    "properties": {
        "event": {"type": "string"},
        "distinct_id": {"type": ["string", "integer"]},
        "properties": {"type": "object"},
        "$idempotency_key": {"type": ["string", "null"], "maxLength": 255},
        "$insert_id": {"type": "string"},
        "$time": {"type": "integer"},
    },
}

_encode = msgspec.json.Encoder().encode


class SuprSendDoor(Door):
    """The door for one event, signed with the secret of its workspace."""

    name = "suprsend"
    not_kept = "the signed request around it"
    operation = openapi.post(
        "An event from SuprSend's SDKs, with their signature: the workspace key is a write key of the"
        " source, and the workspace secret is one of its `signing_secrets`.",
        {"application/json": {"schema": EVENT_SCHEMA}},
        responses={
            "202": {"description": "`message_id`: the event is on all in-sync replicas."},
            "default": {"description": '`{"error": {"message": …}}`'},
        },
    )

    def credentials(self, request: RequestMeta) -> Credentials:
        given = request.headers.get(hdrs.AUTHORIZATION, "").strip()
        if given[: len(BEARER)].lower() == BEARER:
            return Credentials(key=request_headers.clean(given[len(BEARER) :].strip()))
        return Credentials(key=request_headers.clean(given.rpartition(":")[0]))

    def verify(self, request: RequestMeta, body: bytes, source: Source) -> bytes | None:
        given = request.headers.get(hdrs.AUTHORIZATION, "").strip()
        if given[: len(BEARER)].lower() != BEARER:
            return signing.check(request, body, given.rpartition(":")[2], source)
        # a key without SuprSend's signature, as the SDK's `with_workspace_api_key` sends it
        return super().verify(request, body, source)

    def parse(self, request: RequestMeta, body: bytes, limits: BodyLimits) -> ParsedEvents:
        key = self.credentials(request).key
        return ParsedEvents(
            [ParsedEvent(raw, read_event(raw, key)) for raw in self.split(body, limits)],
            Shared(b"", body),
            POLICY,
            window_seconds=DAY_SECONDS,
            payload_of=payload_of,
        )

    def split(self, body: bytes, limits: BodyLimits) -> list[bytes]:
        """Return each event's own bytes."""
        if not body.strip():
            raise ProblemError(Problem("empty_body", "Send an event."))
        return [json_in(body)]

    def reply(self, request: RequestMeta, events: ParsedEvents, outcome: Outcome) -> Answer:
        if outcome.event_ids:
            members = b'"message_id":"%b"%b' % (outcome.event_ids[0].encode(), warned(outcome))
            return Answer(202, b"{%b}" % members)
        refusal = outcome.refused[0].refusal
        return Answer(status_of(refusal), self.error(message_of(refusal)))

    def refuse(self, request: RequestMeta, trouble: Problem, headers: bytes = b"") -> Answer:
        if trouble.code == "unauthorized":
            text = "Send `Authorization: <workspace key>:<signature>`; the key must be a write key of a"
            trouble = trouble._replace(detail=f"{text} source.")
        text = f"{PROBLEMS[trouble.code].title}. {trouble.detail}"
        return problem(trouble, headers)._replace(body=self.error(text), kind=JSON)

    def error(self, message: str) -> bytes:
        return _encode({"error": {"message": message}})


class SuprSendBulkDoor(SuprSendDoor):
    """The door for a list of events; its answer has a record for each event."""

    operation = openapi.post(
        "A list of events from SuprSend's SDKs, with their signature.",
        {"application/json": {"schema": {"type": "array", "items": EVENT_SCHEMA}}},
        responses={
            "202": {"description": "`records`: the result of each event, in order."},
            "default": {"description": '`{"error": {"message": …}, "records": []}`'},
        },
    )

    def split(self, body: bytes, limits: BodyLimits) -> list[bytes]:
        if body.strip()[:1] not in (b"[", b""):
            raise ProblemError(Problem("invalid_body", "The body must be an array of events."))
        return [bytes(one) for one in split_events(body, False, limits.events).events]

    def reply(self, request: RequestMeta, events: ParsedEvents, outcome: Outcome) -> Answer:
        """Return 202 even if no event is accepted: the SDK does not read the records of other answers."""
        accepted = iter(outcome.event_ids)
        refused = {one.index: one.refusal for one in outcome.refused}
        records = (
            _error_record(refused[index]) if index in refused else _success_record(next(accepted))
            for index in range(len(events))
        )
        return Answer(202, b'{"records":[%b]%b}' % (b",".join(records), warned(outcome)))

    def error(self, message: str) -> bytes:
        """Return an error with `records`, because the SDK reads them before it checks the status."""
        return _encode({"error": {"message": message}, "records": []})


DOOR = SuprSendDoor()
BULK = SuprSendBulkDoor()


def warned(outcome: Outcome) -> bytes:
    """Return the member `warnings` for the answer; empty: there are no warnings."""
    return b',"warnings":%b' % _encode(outcome.warnings) if outcome.warnings else b""


def _success_record(event_id: str) -> bytes:
    return b'{"status":"success","status_code":202,"message_id":"%b"}' % event_id.encode()


def _error_record(refusal: Refusal) -> bytes:
    return _encode(
        {
            "status": "error",
            "status_code": status_of(refusal),
            "message_id": None,
            "error": {"message": message_of(refusal)},
        }
    )


def status_of(refusal: Refusal) -> int:
    return STATUSES.get(refusal.code, 400)


def message_of(refusal: Refusal) -> str:
    """Return a refusal as one sentence."""
    if refusal.code == NO_ATTACHMENT:
        return f"{refusal.text} ({refusal.field})"
    return f"{refusal.field} {refusal.text}" if refusal.field else refusal.text
