"""HitKeep's door `/ingest`: the page views of its script hk.js. Pure."""

import msgspec
from aiohttp import hdrs
from msgspec import Raw, Struct
from msgspec.structs import replace

from weir.gateway.doors.hitkeep.door import (
    POLICY,
    HitKeepDoor,
    PageContext,
    context_of,
    event_of,
    one_event,
    operation_of,
)
from weir.gateway.http.error_codes import Refusal
from weir.gateway.http.request_headers import site_of
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.parsed_events import ParsedEvents

PAGE_VIEW = "page_view"
UNCASED = frozenset({PAGE_VIEW})  # Weir's name, not chosen by the source
VIEWS = replace(POLICY, uncased_names=UNCASED)
Number = int | float | None

_encode = msgspec.json.Encoder().encode


class SentView(Struct, gc=False):
    """The body, with the short names of hk.js."""

    path: str
    site_id: str | None = None
    referrer: str | None = None
    ua: str | None = None
    vp_w: Number = None
    vp_h: Number = None
    sc_w: Number = None
    sc_h: Number = None
    lang: str | None = None
    u_src: str | None = None
    u_med: str | None = None
    u_cmp: str | None = None
    u_trm: str | None = None
    u_cnt: str | None = None
    qr: str | None = None
    unique: bool | None = None
    session_id: str | None = None
    page_id: str | None = None
    tsrc: str | None = None
    tv: str | None = None
    dnt: bool | None = None


class PageView(Struct, omit_defaults=True):
    """The properties of a page view; unknown properties are left out."""

    host: str | None = None
    path: str | None = None
    url: str | None = None
    referrer: str | None = None
    viewport_width: Number = None
    viewport_height: Number = None
    screen_width: Number = None
    screen_height: Number = None
    language: str | None = None
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    utm_term: str | None = None
    utm_content: str | None = None
    qr: str | None = None
    unique: bool | None = None
    page_id: str | None = None

    def as_json(self) -> Raw:
        return Raw(_encode(self))


class PageViewDoor(HitKeepDoor):
    """The door for page views from hk.js."""

    operation = operation_of("A page view from HitKeep's script.", SentView)
    decoder = msgspec.json.Decoder(SentView)

    def parsed(self, request: RequestMeta, body: bytes, sent: SentView) -> ParsedEvents:
        if not sent.path:
            return one_event(request, body, Refusal("empty", "path", "must not be empty"), VIEWS)
        view = PageView(
            host=site_of(request.headers.get(hdrs.ORIGIN, "")) or None,
            path=sent.path,
            referrer=sent.referrer or None,
            viewport_width=sent.vp_w,
            viewport_height=sent.vp_h,
            screen_width=sent.sc_w,
            screen_height=sent.sc_h,
            language=sent.lang,
            utm_source=sent.u_src,
            utm_medium=sent.u_med,
            utm_campaign=sent.u_cmp,
            utm_term=sent.u_trm,
            utm_content=sent.u_cnt,
            qr=sent.qr,
            unique=sent.unique,
            page_id=sent.page_id,
        )
        context = context_of(PageContext(), sent.tsrc, sent.tv)
        event = event_of(PAGE_VIEW, view.as_json(), sent.session_id, context)
        return one_event(request, body, event, VIEWS, user_agent=sent.ua)


DOOR = PageViewDoor()
