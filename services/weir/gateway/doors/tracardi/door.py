"""The door `/track` for the tracker payloads of Tracardi's clients. Pure, except for the ids of new profiles."""

import re
import uuid
from typing import Annotated, NamedTuple
from urllib.parse import parse_qs

import msgspec
from msgspec import Meta, Raw, Struct

from weir.gateway.doors.answers import without_valid_event
from weir.gateway.doors.door import RECEIPT_SECONDS, Door
from weir.gateway.doors.tracardi import response as tracardi_reply
from weir.gateway.http import openapi, request_headers
from weir.gateway.http.error_codes import Problem, ProblemError, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer
from weir.gateway.ingest.lenient_json import decoded, is_outside, not_json
from weir.gateway.ingest.parsed_events import (
    BodyLimits,
    BodyProblemError,
    Credentials,
    Outcome,
    ParsedEvent,
    ParsedEvents,
)
from weir.gateway.ingest.split_body import parse_body
from weir.gateway.ingest.split_events import require_few, require_room, shared_of
from weir.gateway.ingest.validation import EMPTY_OBJECT, NULL, Policy, SentEvent, Shared

POLICY = Policy(own_names=None)
YES = frozenset({"true", "1", "yes", "on"})
NO = frozenset({"false", "0", "no", "off", ""})
_NOTHING = (b"", NULL, EMPTY_OBJECT)

RequiredId = Annotated[str, Meta(pattern=r"\S")] | int


class _SentSource(Struct):
    id: RequiredId


class _Session(Struct):
    id: RequiredId


class _Profile(Struct):
    id: str | int | None = None


class _SentOptions(Struct, rename="camel"):
    debugger: bool | None = None
    profile: bool | None = None
    save_session: bool | None = None
    save_events: bool | None = None


class _Payload(Struct):
    """The members of a tracker payload that Weir uses; other members are ignored."""

    source: _SentSource
    session: _Session
    events: list[Raw]
    profile: _Profile | None = None
    context: Raw = Raw()
    properties: Raw = Raw()
    options: _SentOptions | None = None


class _Sender(Struct):
    source: _SentSource


class _TracardiEvent(Struct):
    type: str
    id: str | None = None
    properties: Raw = Raw()
    context: Raw = Raw()


_decode_payload = msgspec.json.Decoder(_Payload).decode
_decode_sender = msgspec.json.Decoder(_Sender).decode
_decode_event = msgspec.json.Decoder(_TracardiEvent).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
_place = re.compile(r".* at `\$\.([a-z.A-Z]+)").match
_missing = re.compile(r"Object missing required field `(\w+)`").match

OPERATION = openapi.post(
    "Tracardi's tracker payload. The answer has the profile's id: a new id if none was sent.",
    {
        "application/json": {
            "schema": {"type": "object", "required": ["source", "session", "events"]}
        }
    },
    parameters=[{"name": "profile_less", "in": "query", "schema": {"type": "boolean"}}],
)
OPERATION["responses"]["200"] = {
    "description": "The accepted events are on all in-sync replicas. With `options.debugger` or"
    f" `options.profile` the answer has waited for the workers, at most {RECEIPT_SECONDS:g} s.",
    "content": {"application/json": {"schema": {"type": "object"}}},
}
del OPERATION["responses"]["202"]


class TracardiDoor(Door):
    """The door for Tracardi's tracker payloads."""

    name = "tracardi"
    not_kept = "the session and the profile of its payload"
    operation = OPERATION

    def credentials(self, request: RequestMeta) -> Credentials | None:
        key = request_headers.key_of(request.headers, request.query)
        return Credentials(key) if key else None  # else the body names the source

    def parse(self, request: RequestMeta, body: bytes, limits: BodyLimits) -> ParsedEvents:
        try:
            payload, raws = parse_body(body, _decode, _misshapen)
        except ProblemError as error:
            problem = error.problem if body.strip() else error.problem._replace(code="empty_body")
            credentials = None if problem.code != "invalid_body" else _credentials_in(request, body)
            if credentials is None:
                raise ProblemError(problem) from None
            raise BodyProblemError(problem, credentials) from None
        credentials = _credentials(request, payload.source)
        try:
            events = _parsed(request, payload, raws, body, limits)
        except ProblemError as error:
            raise BodyProblemError(error.problem, credentials) from None
        events.credentials = credentials
        return events

    def reply(self, request: RequestMeta, events: ParsedEvents, outcome: Outcome) -> Answer:
        if not outcome.event_ids:
            return without_valid_event(outcome)
        return Answer(200, tracardi_reply.reply(events, outcome))


DOOR = TracardiDoor()


def _decode(body: bytes) -> tuple[_Payload, list[bytes]]:
    """Return a payload and its events' own bytes; an event that is not JSON is rejected alone, later."""
    batch = decoded(body, _decode_payload)
    raws = batch.own(batch.found.events)
    if batch.fault and is_outside(raws, body):
        raise msgspec.DecodeError(batch.fault)  # the invalid JSON is outside of the events
    return batch.found, raws


def _credentials(request: RequestMeta, source: _SentSource) -> Credentials:
    return Credentials(request_headers.key_of(request.headers, request.query), str(source.id))


def _misshapen(fault: str) -> Problem:
    """Return the problem of a body that is not a tracker payload."""
    place = _place(fault)
    parts = [place[1]] if place else []
    if missing := _missing(fault):
        parts.append(missing[1])
    text = f"A tracker payload must have source.id, session.id and events: {fault}."
    return Problem("invalid_body", text, ".".join(parts))


def _credentials_in(request: RequestMeta, body: bytes) -> Credentials | None:
    """Return the credentials of a body that is not a tracker payload; None: it names no source."""
    try:
        return _credentials(request, _decode_sender(body).source)
    except (msgspec.DecodeError, RecursionError):
        return None


def _parsed(
    request: RequestMeta, payload: _Payload, raws: list[bytes], body: bytes, limits: BodyLimits
) -> ParsedEvents:
    profile_less = _is_profile_less(request.query)
    if not raws:
        raise ProblemError(Problem("no_events", "`events` is empty.", "events"))
    require_few(len(raws), limits.events)
    shared = _shared(payload, body)
    require_room(shared, len(raws), limits)
    options = payload.options or _SentOptions()
    wants_session = options.save_session is not False
    who = _who(payload, profile_less, wants_session)
    # in case the given id is a placeholder such as `undefined`, which names nobody: the source's list decides
    new_profile_id = str(uuid.uuid4()) if who.profile_id else ""
    note = tracardi_reply.ReplyOptions(
        who.profile_id, options.debugger is True, options.profile is True
    )
    return ParsedEvents(
        [_parsed_event(raw, who) for raw in raws],
        shared,
        POLICY,
        wants_profile=not profile_less,
        wants_session=wants_session,
        saved=options.save_events is not False,
        wants_receipts=note.debugger or note.profile,
        new_profile_id=new_profile_id,
        note=note,
    )


def _is_profile_less(query: str) -> bool:
    said = parse_qs(query).get("profile_less", [""])[-1].lower() if query else ""
    if said in YES or said in NO:
        return said in YES
    text = "`profile_less` must be true or false."
    raise ProblemError(Problem("invalid_query", text, "profile_less"))


def _shared(payload: _Payload, body: bytes) -> Shared:
    """Return the request's context, with the request's properties as `properties` unless it has that member."""
    context, properties = bytes(payload.context), bytes(payload.properties)
    if properties not in _NOTHING:
        if not properties.startswith(b"{"):
            text = "`properties` must be an object."
            raise ProblemError(Problem("invalid_body", text, "properties"))
        if context in _NOTHING:
            context = EMPTY_OBJECT
        if context.startswith(b"{"):
            context = _encode({"properties": payload.properties, **_decode_members(context)})
    return shared_of(context, body)


class _Who(NamedTuple):
    """The ids that all events of a payload share; empty: none."""

    profile_id: str
    session_id: str


def _who(payload: _Payload, profile_less: bool, wants_session: bool) -> _Who:
    """Return the ids of a payload. A new profile gets its id here, so that the answer can have it at once."""
    session_id = str(payload.session.id).strip() if wants_session else ""
    if profile_less:
        return _Who("", session_id)
    given = payload.profile.id if payload.profile is not None else None
    profile_id = "" if given is None else str(given).strip()
    return _Who(profile_id or str(uuid.uuid4()), session_id)


def _parsed_event(raw: bytes, who: _Who) -> ParsedEvent:
    try:
        event = _decode_event(raw)
    except msgspec.ValidationError as fault:
        return ParsedEvent(raw, _refusal(str(fault)))
    except msgspec.DecodeError as fault:
        return ParsedEvent(raw, not_json(raw, fault))
    sent = SentEvent(
        event.type,
        profile_id=who.profile_id,
        session_id=who.session_id,
        id=event.id,
        properties=event.properties,
        context=event.context,
    )
    return ParsedEvent(raw, sent)


def _refusal(fault: str) -> Refusal:
    if _missing(fault):
        return Refusal("missing", "type", "is missing; every event needs one")
    if place := _place(fault):
        return Refusal("wrong_type", place[1], "must be a string of 1 to 255 characters")
    return Refusal("not_an_object", "", f"an event must be an object: {fault}")
