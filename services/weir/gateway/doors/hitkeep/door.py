"""HitKeep's door `/ingest/event`, and the base class of all HitKeep doors. Pure.

docs/doors-reference.md describes how each key is used, and what differs from HitKeep.
"""

import re
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec
from aiohttp import hdrs
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace
from multidict import istr

from weir.gateway.doors.door import Door
from weir.gateway.http import openapi, request_headers
from weir.gateway.http.error_codes import Problem, ProblemError, Refusal
from weir.gateway.http.request_headers import site_of
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import TEXT, Answer
from weir.gateway.ingest.parsed_events import (
    BodyLimits,
    BodyProblemError,
    Credentials,
    Outcome,
    ParsedEvent,
    ParsedEvents,
)
from weir.gateway.ingest.split_body import json_in
from weir.gateway.ingest.validation import Policy, SentEvent, Shared

API_KEY = istr("X-Api-Key")
DNT = istr("DNT")
GPC = istr("Sec-GPC")
Json = Raw | UnsetType
NO_ID = "00000000-0000-0000-0000-000000000000"  # sent by clients that have no id
POLICY = Policy(own_names=None, spaced_names=True)
NAMED_IN_FULL = replace(POLICY, field_names={"event": "name", "properties": "props"})
NAMED_IN_SHORT = replace(POLICY, field_names={"event": "n", "properties": "p", "session_id": "sid"})


class SentByEither(Struct, gc=False):
    """The body of `/ingest/event`: servers use full names, hk.js uses short names."""

    site_id: str | None = None
    name: str | None = None
    url: str | None = None
    referrer: str | None = None
    props: Json = UNSET
    session_id: str | None = None
    n: str | None = None  # name
    p: Json = UNSET  # properties
    r: str | None = None  # referrer
    sid: str | None = None  # session
    path: str | None = None
    ua: str | None = None
    tsrc: str | None = None  # name of the tracker
    tv: str | None = None  # version of the tracker
    dnt: bool | None = None


class PageContext(Struct, omit_defaults=True):
    """The page on which a custom event happened."""

    host: str | None = None
    path: str | None = None
    url: str | None = None
    referrer: str | None = None


class Tracker(Struct, omit_defaults=True):
    """The tracker that sent an event."""

    source: str | None = None
    version: str | None = None


class Context(Struct, omit_defaults=True):
    """The context of an event: what is known besides its properties."""

    page: PageContext | None = None
    tracker: Tracker | None = None


class InvalidBody(Struct):
    """A JSON object that does not have the body's shape: its refusal, and the members that are used anyway."""

    refusal: Refusal
    site_id: str | None
    dnt: bool


class _Loose(Struct):
    site_id: Raw = Raw()
    dnt: Raw = Raw()


_encode = msgspec.json.Encoder().encode
_decode_loose = msgspec.json.Decoder(_Loose).decode
_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_text = msgspec.json.Decoder(str).decode
_missing = re.compile(r"Object missing required field `(\w+)`").match
_place = re.compile(r"(.*) - at `\$\.(\w+)", re.DOTALL).match


def operation_of(summary: str, shape: type) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components([shape], ref_template="#/components/schemas/{name}")
    operation = openapi.post(summary, {"application/json": {"schema": schemas[shape.__name__]}})
    done = "The event is on all in-sync replicas, or not stored if the person opted out (DNT, Sec-GPC, dnt)."
    operation["responses"]["202"] = {"description": done}
    return operation


class HitKeepDoor(Door):
    """The base of HitKeep's doors: one event per request, an empty 202; nothing is stored of people who opt out."""

    name = "hitkeep"
    not_kept = "which of HitKeep's routes it was sent to, with the page's origin,"
    decoder: ClassVar[msgspec.json.Decoder[Any]]

    def credentials(self, request: RequestMeta) -> Credentials | None:
        key = key_of(request)
        return Credentials(key) if key else None  # else the body or the page names the source

    def declines(self, request: RequestMeta) -> bool:
        headers = request.headers
        return headers.get(DNT, "").strip() == "1" or headers.get(GPC, "").strip() == "1"

    def parse(self, request: RequestMeta, body: bytes, limits: BodyLimits) -> ParsedEvents:
        body = body.strip(b" \t\r\n")
        try:
            sent = read_body(self.decoder, body)
        except ProblemError as error:
            credentials = self.whose(request, None)
            if credentials is None:
                raise
            raise BodyProblemError(error.problem, credentials) from None
        credentials = self.whose(request, sent)
        if credentials is None:
            text = "Name the site by `site_id`, or by the Origin header of one of its pages."
            raise ProblemError(Problem("unknown_site", text, "site_id"))
        if sent.dnt or self.declines(request):
            return ParsedEvents(credentials=credentials, declined=1)
        if isinstance(sent, InvalidBody):
            return ParsedEvents([ParsedEvent(body, sent.refusal)], credentials=credentials)
        events = self.parsed(request, body, sent)
        events.credentials = credentials
        return events

    def whose(self, request: RequestMeta, sent: Any) -> Credentials | None:
        """Return the credentials: a key, a source id, or else the page's site; None: the request has none of them.

        `sent`: the decoded body; None: it cannot be decoded.
        """
        key, site_id = key_of(request), "" if sent is None else sent.site_id or ""
        if key or site_id:
            return Credentials(key, site_id)
        site = site_of(request.headers.get(hdrs.ORIGIN, ""))
        return Credentials(site=site) if site else None

    def parsed(self, request: RequestMeta, body: bytes, sent: Any) -> ParsedEvents:
        """Return the one event of a body that has the door's shape."""
        raise NotImplementedError

    def reply(self, request: RequestMeta, events: ParsedEvents, outcome: Outcome) -> Answer:
        if outcome.refused or outcome.warnings:
            return super().reply(request, events, outcome)
        return Answer(202, b"", TEXT)


class HitKeepEventDoor(HitKeepDoor):
    """The door for custom events from hk.js and from servers."""

    operation = operation_of("An event from HitKeep's script or from a server.", SentByEither)
    decoder = msgspec.json.Decoder(SentByEither)

    def parsed(self, request: RequestMeta, body: bytes, sent: SentByEither) -> ParsedEvents:
        url = sent.url or ""
        page = PageContext(
            site_of(request.headers.get(hdrs.ORIGIN, "")) or site_of(url) or None,
            sent.path or path_of(url) or None,
            url or None,
            sent.referrer or sent.r or None,
        )
        context = context_of(page, sent.tsrc, sent.tv)
        session = sent.session_id or sent.sid
        if sent.name is None and sent.n is not None:
            event, policy = event_of(sent.n, sent.p, session, context), NAMED_IN_SHORT
        else:
            event, policy = event_of(sent.name, sent.props, session, context), NAMED_IN_FULL
        return one_event(request, body, event, policy, user_agent=sent.ua)


DOOR = HitKeepEventDoor()


def one_event(
    request: RequestMeta,
    body: bytes,
    event: SentEvent | Refusal,
    policy: Policy,
    *,
    ip: str = "",
    user_agent: str | None = None,
) -> ParsedEvents:
    """Return the one event of a request. Without a session id it has no profile or session: nobody is made up."""
    has_session = isinstance(event, SentEvent) and event.session_id is not None
    if isinstance(event, SentEvent):
        key = request.headers.get(request_headers.IDEMPOTENCY_KEY, "")
        event.idempotency_key = request_headers.clean(key) or None
    return ParsedEvents(
        [ParsedEvent(body, event)],
        Shared(b"", body),
        policy,
        wants_profile=has_session,
        ip=ip,
        user_agent=(user_agent or "")[: request_headers.MAX_USER_AGENT],
    )


def event_of(
    name: str | None, properties: Json, session: str | None, context: Raw
) -> SentEvent | Refusal:
    if name is None:
        return Refusal("missing", "name", "is missing; every event needs one")
    known = session if session and session != NO_ID else None
    own = Raw() if properties is UNSET else properties
    return SentEvent(name.strip(), session_id=known, properties=own, context=context)


def context_of(page: PageContext, source: str | None, version: str | None) -> Raw:
    """Return the context as JSON, without empty members."""
    tracker = Tracker(source or None, version or None)
    context = Context(
        page if page != PageContext() else None,
        tracker if tracker != Tracker() else None,
    )
    return Raw(_encode(context))


def key_of(request: RequestMeta) -> str:
    """Return the write key, sent as at every door or as `X-Api-Key`; empty: none."""
    key = request_headers.key_of(request.headers, request.query)
    return key or request_headers.clean(request.headers.get(API_KEY, "").strip())


def path_of(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def read_body(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """Decode a body; `InvalidBody` if it has another shape. `ProblemError` if it is not a JSON object."""
    try:
        if not body.isascii():
            body.decode()
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as fault:  # msgspec has not read the rest of the body
            return _wrong(body, str(fault))
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as fault:
        json_in(body)
        raise ProblemError(Problem("invalid_json", f"{fault}.")) from None


def _wrong(body: bytes, fault: str) -> InvalidBody:
    loose = _decode_loose(body) if body.startswith(b"{") else _decode_raw(body)
    if not isinstance(loose, _Loose):
        raise ProblemError(Problem("invalid_body", "The body must be a JSON object."))
    site_id, dnt = bytes(loose.site_id), bytes(loose.dnt)
    return InvalidBody(
        explain(fault),
        _decode_text(site_id) if site_id.startswith(b'"') else None,
        dnt not in (b"", b"null", b"false"),  # every other value counts as true
    )


def explain(fault: str) -> Refusal:
    """Turn msgspec's message into a refusal of the field."""
    if missing := _missing(fault):
        return Refusal("missing", missing[1], "is missing")
    place = _place(fault)
    if place is None:
        return Refusal("wrong_type", "", f"the body is not valid: {fault}")
    code = "invalid_time" if "RFC3339" in fault or "timezone" in fault else "wrong_type"
    return Refusal(code, place[2], f"is not valid: {place[1]}")
