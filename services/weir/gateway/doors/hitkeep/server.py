"""HitKeep's doors `/api/ingest/server/…`: events that servers send about their visitors. Pure."""

from datetime import datetime
from typing import Annotated, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import UNSET, Meta, Struct
from msgspec.structs import replace

from weir.core.registry import Source
from weir.gateway.doors.hitkeep.door import (
    POLICY,
    HitKeepDoor,
    Json,
    PageContext,
    context_of,
    event_of,
    key_of,
    one_event,
    operation_of,
    path_of,
)
from weir.gateway.doors.hitkeep.views import PAGE_VIEW, UNCASED, Number, PageView
from weir.gateway.http.error_codes import Problem, ProblemError, Refusal, quoted
from weir.gateway.http.rate_limits import plain_address
from weir.gateway.http.request_headers import site_of
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.parsed_events import Credentials, ParsedEvents
from weir.gateway.ingest.validation import Policy, SentEvent

EVENT_POLICY = replace(POLICY, field_names={"event": "name", "occurred_at": "timestamp"})
VIEW_POLICY = replace(EVENT_POLICY, uncased_names=UNCASED)


class SentByServer(Struct, gc=False):
    """The body: an event of a visitor, whom the server identifies by address and user agent."""

    url: str
    timestamp: Annotated[datetime, Meta(tz=True)]
    visitor_ip: str
    user_agent: str
    name: str | None = None
    properties: Json = UNSET
    referrer: str | None = None
    dnt: bool | None = None
    session_id: str | None = None
    page_id: str | None = None
    language: str | None = None
    viewport_width: Number = None
    viewport_height: Number = None
    screen_width: Number = None
    screen_height: Number = None


class _OfSite(Struct):
    url: str


_decode_site = msgspec.json.Decoder(_OfSite).decode


class ServerDoor(HitKeepDoor):
    """The base of the server doors: they require the key of a source that has the URL's host among its sites."""

    decoder = msgspec.json.Decoder(SentByServer)
    policy: ClassVar[Policy] = EVENT_POLICY

    def credentials(self, request: RequestMeta) -> Credentials | None:
        return Credentials(key_of(request))

    def whose(self, request: RequestMeta, sent: Any) -> Credentials:
        return Credentials(key_of(request))

    def verify(self, request: RequestMeta, body: bytes, source: Source) -> bytes | None:
        try:
            site = site_of(_decode_site(body).url)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            site = ""  # `parse` rejects this body, in its own words
        if not site or site in source.sites:
            return super().verify(request, body, source)
        text = f"{quoted(site)} is not among the sites of the source {quoted(source.id)}."
        raise ProblemError(Problem("unknown_site", text, "url"))

    def parsed(self, request: RequestMeta, body: bytes, sent: SentByServer) -> ParsedEvents:
        address, agent = plain_address(sent.visitor_ip.strip()), sent.user_agent.strip()
        event: SentEvent | Refusal
        if not site_of(sent.url):
            event = Refusal("invalid_url", "url", "must be an absolute http or https URL")
        elif not address:
            event = Refusal("invalid_address", "visitor_ip", "must be an IP address")
        elif not agent:
            event = Refusal("empty", "user_agent", "must not be blank")
        else:
            event = self.event(sent)
        if isinstance(event, SentEvent):
            event.occurred_at = sent.timestamp
        return one_event(request, body, event, self.policy, ip=address, user_agent=agent)

    def event(self, sent: SentByServer) -> SentEvent | Refusal:
        raise NotImplementedError


class ServerEventDoor(ServerDoor):
    """The door for custom events from servers."""

    operation = operation_of("An event that a server sends about its visitor.", SentByServer)

    def event(self, sent: SentByServer) -> SentEvent | Refusal:
        page = PageContext(
            site_of(sent.url), path_of(sent.url) or "/", sent.url, sent.referrer or None
        )
        context = context_of(page, None, None)
        return event_of(sent.name, sent.properties, sent.session_id, context)


class ServerViewDoor(ServerDoor):
    """The door for page views from servers; campaign parameters come from the query of the URL."""

    operation = operation_of("A page view that a server sends about its visitor.", SentByServer)
    policy = VIEW_POLICY

    def event(self, sent: SentByServer) -> SentEvent | Refusal:
        query = {name: found[0] for name, found in parse_qs(urlsplit(sent.url).query).items()}
        view = PageView(
            host=site_of(sent.url),
            path=path_of(sent.url) or "/",
            url=sent.url,
            referrer=sent.referrer or None,
            viewport_width=sent.viewport_width,
            viewport_height=sent.viewport_height,
            screen_width=sent.screen_width,
            screen_height=sent.screen_height,
            language=sent.language,
            utm_source=query.get("utm_source"),
            utm_medium=query.get("utm_medium"),
            utm_campaign=query.get("utm_campaign"),
            utm_term=query.get("utm_term"),
            utm_content=query.get("utm_content"),
            qr=query.get("hk_qr"),
            page_id=sent.page_id,
        )
        context = context_of(PageContext(), None, None)
        return event_of(PAGE_VIEW, view.as_json(), sent.session_id, context)


EVENT = ServerEventDoor()
VIEW = ServerViewDoor()
