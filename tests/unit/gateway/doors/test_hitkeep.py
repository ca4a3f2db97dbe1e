"""HitKeep's doors map bodies to events, find their site, and reject or drop what they must."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.doors import body_problem_of, parse, problem_of, validated
from weir.core.identifiers import identity_key
from weir.core.registry import Source
from weir.gateway.doors.door import Door
from weir.gateway.doors.hitkeep import door as hitkeep
from weir.gateway.doors.hitkeep import server, views
from weir.gateway.doors.hitkeep.door import key_of
from weir.gateway.http.error_codes import Problem, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import RecordContext, build_records
from weir.gateway.ingest.parsed_events import (
    BodyLimits,
    Credentials,
    Outcome,
    ParsedEvents,
    Refused,
)
from weir.gateway.ingest.validation import Event

NOW = 1_760_011_200_000
LIMITS = BodyLimits(100, 100_000)
PAGE = "https://www.Shop.example"
SESSION = "8f14e45f-ceea-467f-a8d2-0c1f3f7f0a11"
DOCUMENTED = {  # as HitKeep documents it, with the site's id filled in
    "site_id": "shop",
    "name": "purchase",
    "url": "https://your-site.com/checkout/success",
    "referrer": "",
    "props": {"plan": "pro", "amount": "49"},
}
COMPACT = {
    "n": "signup",
    "p": {"plan": "pro"},
    "r": "https://search.example/",
    "sid": SESSION,
    "path": "/pricing",
    "ua": "Browser/1",
    "tsrc": "hk.js",
    "tv": "2.9.0",
}
VIEW = {
    "path": "/pricing",
    "referrer": "https://search.example/",
    "ua": "Browser/1",
    "vp_w": 1200,
    "vp_h": 800.5,
    "sc_w": 1920,
    "sc_h": 1080,
    "lang": "en-GB",
    "u_src": "news",
    "u_med": "email",
    "u_cmp": "spring",
    "u_trm": "shoes",
    "u_cnt": "top",
    "qr": "q1",
    "unique": True,
    "session_id": SESSION,
    "page_id": "p1",
}
CALL = {
    "url": "https://www.shop.example/checkout?utm_source=news&utm_campaign=spring%20sale&hk_qr=q1",
    "timestamp": "2025-04-15T12:00:00Z",
    "visitor_ip": "203.0.113.7",
    "user_agent": "Visitor/1",
    "name": "purchase",
    "properties": {"amount": 49},
    "referrer": "https://search.example/",
    "session_id": SESSION,
}


def request_meta(query: str = "", **headers: str) -> RequestMeta:
    given = CIMultiDict({name.replace("_", "-"): text for name, text in headers.items()})
    return RequestMeta("POST", "/ingest", query, {}, CIMultiDictProxy(given), "198.51.100.1", NOW)


def parsed(door: Door, body: Any, request: RequestMeta) -> ParsedEvents:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return door.parse(request, raw, LIMITS)


def event_of(door: Door, body: Any, request: RequestMeta) -> Event:
    ((_, event),) = validated(parsed(door, body, request), NOW)
    assert isinstance(event, Event), event
    return event


def refusal_of(door: Door, body: Any, request: RequestMeta) -> Refusal:
    ((_, event),) = validated(parsed(door, body, request), NOW)
    assert isinstance(event, Refusal)
    return event


def test_the_documented_server_body_becomes_an_event() -> None:
    events = parsed(hitkeep.DOOR, DOCUMENTED, request_meta())
    ((raw, event),) = validated(events, NOW)
    assert isinstance(event, Event)
    assert events.credentials == Credentials(source="shop")
    assert json.loads(raw) == DOCUMENTED
    assert event.name == "purchase"
    assert json.loads(event.properties) == {"plan": "pro", "amount": "49"}
    assert json.loads(event.context) == {
        "page": {
            "host": "your-site.com",
            "path": "/checkout/success",
            "url": "https://your-site.com/checkout/success",
        }
    }


def test_properties_keep_their_bytes() -> None:
    body = b'{"n": "a", "p": {"x":  1.0, "$y": [1e3]}}'
    assert event_of(hitkeep.DOOR, body, request_meta(Origin=PAGE)).properties == (
        b'{"x":  1.0, "$y": [1e3]}'
    )


def test_event_and_property_names_with_reserved_prefixes_are_accepted() -> None:
    body = {"n": " Pro Signup ", "p": {"$step": 1, "ss_x": 2}}
    event = event_of(hitkeep.DOOR, body, request_meta(Origin=PAGE))
    assert event.name == "Pro Signup"
    assert json.loads(event.properties) == body["p"]


def test_the_scripts_compact_body_becomes_an_event_of_the_origins_site() -> None:
    events = parsed(hitkeep.DOOR, COMPACT, request_meta(Origin=PAGE))
    ((_, event),) = validated(events, NOW)
    assert isinstance(event, Event)
    assert events.credentials == Credentials(site="shop.example")
    assert events.user_agent == "Browser/1"
    assert (event.name, event.session_id) == ("signup", SESSION)
    assert json.loads(event.properties) == {"plan": "pro"}
    assert json.loads(event.context) == {
        "page": {"host": "shop.example", "path": "/pricing", "referrer": "https://search.example/"},
        "tracker": {"source": "hk.js", "version": "2.9.0"},
    }


def test_page_view_abbreviations_become_plain_property_names() -> None:
    events = parsed(views.DOOR, VIEW, request_meta(Origin="http://shop.example:8080"))
    ((_, event),) = validated(events, NOW)
    assert isinstance(event, Event)
    assert (event.name, event.session_id, event.context) == ("page_view", SESSION, b"{}")
    assert (events.credentials, events.user_agent) == (
        Credentials(site="shop.example"),
        "Browser/1",
    )
    assert json.loads(event.properties) == {
        "host": "shop.example",
        "path": "/pricing",
        "referrer": "https://search.example/",
        "viewport_width": 1200,
        "viewport_height": 800.5,
        "screen_width": 1920,
        "screen_height": 1080,
        "language": "en-GB",
        "utm_source": "news",
        "utm_medium": "email",
        "utm_campaign": "spring",
        "utm_term": "shoes",
        "utm_content": "top",
        "qr": "q1",
        "unique": True,
        "page_id": "p1",
    }


def test_absent_and_null_page_view_fields_are_omitted() -> None:
    body = {"path": "/", "referrer": None, "unique": False, "u_src": None}
    event = event_of(views.DOOR, body, request_meta(Origin=PAGE))
    assert json.loads(event.properties) == {"host": "shop.example", "path": "/", "unique": False}


def test_a_server_event_has_the_visitors_address_user_agent_and_time() -> None:
    events = parsed(server.EVENT, CALL, request_meta(X_Api_Key="k"))
    ((_, event),) = validated(events, NOW)
    assert isinstance(event, Event)
    assert (events.ip, events.user_agent) == ("203.0.113.7", "Visitor/1")
    assert (event.name, event.occurred_at) == ("purchase", 1_744_718_400_000)
    assert (event.session_id, event.properties) == (SESSION, b'{"amount": 49}')
    assert json.loads(event.context)["page"] == {
        "host": "shop.example",
        "path": "/checkout",
        "url": CALL["url"],
        "referrer": "https://search.example/",
    }


def test_a_server_page_view_reads_campaign_parameters_from_the_url() -> None:
    body = CALL | {"page_id": "p1", "language": "de", "viewport_width": 10, "screen_height": 20}
    event = event_of(server.VIEW, body, request_meta(X_Api_Key="k"))
    assert event.name == "page_view"
    assert json.loads(event.properties) == {
        "host": "shop.example",
        "path": "/checkout",
        "url": CALL["url"],
        "referrer": "https://search.example/",
        "viewport_width": 10,
        "screen_height": 20,
        "language": "de",
        "utm_source": "news",
        "utm_campaign": "spring sale",
        "qr": "q1",
        "page_id": "p1",
    }


@pytest.mark.parametrize(("door", "body"), [(views.DOOR, VIEW), (server.VIEW, CALL)])
def test_a_page_view_name_is_exempt_from_the_sources_casing(door: Door, body: Any) -> None:
    """The page view name is exempt from casing because the door sets it; a custom name is checked."""
    source = Source(id="s", event_casing="TitleCase", enforce_casing=True)
    context = RecordContext(SourceFields.of(source), NOW, Client("hitkeep", "", ""))
    records = build_records(parsed(door, body, request_meta(Origin=PAGE)), source, context)
    assert (len(records.event_ids), records.refused, records.warnings) == (1, [], [])
    chosen = parsed(hitkeep.DOOR, DOCUMENTED | {"name": "page_view"}, request_meta())
    assert [one.refusal.code for one in build_records(chosen, source, context).refused] == [
        "wrong_casing"
    ]


@pytest.mark.parametrize(
    ("headers", "site_id", "credentials"),
    [
        ({}, "shop", Credentials(source="shop")),
        ({"Origin": "https://other.example"}, "shop", Credentials(source="shop")),
        ({"X_Api_Key": "k"}, "shop", Credentials("k", "shop")),
        ({"Authorization": "Bearer k"}, None, Credentials("k")),
        ({"Origin": "https://www.A.example:8443"}, None, Credentials(site="a.example")),
        ({"Origin": "http://www.www.a.example"}, "", Credentials(site="www.a.example")),
    ],
)
def test_credentials_come_from_the_key_the_site_id_or_the_origin(
    headers: dict[str, str], site_id: str | None, credentials: Credentials
) -> None:
    body = {"site_id": site_id, "name": "a"}
    assert parsed(hitkeep.DOOR, body, request_meta(**headers)).credentials == credentials


@pytest.mark.parametrize("origin", ["", "null", "ftp://a.example", "https://", "https://[x"])
def test_an_event_without_site_id_and_valid_origin_is_rejected_as_unknown_site(origin: str) -> None:
    problem = problem_of(hitkeep.DOOR.parse, request_meta(Origin=origin), b'{"n": "a"}', LIMITS)
    assert (problem.code, problem.field) == ("unknown_site", "site_id")


def test_a_server_key_is_read_from_the_bearer_or_x_api_key_header() -> None:
    assert key_of(request_meta(Authorization="Bearer k")) == "k"
    assert key_of(request_meta(X_Api_Key=" k ")) == "k"
    assert server.EVENT.credentials(request_meta(X_Api_Key="k")) == Credentials("k")


def test_a_server_event_whose_url_is_not_a_site_of_its_source_is_rejected() -> None:
    def verify(url: object, *sites: str) -> bytes | None:
        body = json.dumps(CALL | {"url": url}).encode()
        return server.EVENT.verify(request_meta(), body, Source(id="shop", sites=sites))

    assert verify("https://www.Shop.example/x", "shop.example") is None
    problem = problem_of(verify, "https://other.example/x", "shop.example")
    assert (problem.code, problem.field) == ("unknown_site", "url")
    assert problem_of(verify, "https://shop.example/x").code == "unknown_site"
    assert verify("/x") is None  # not a site's: the event says so
    assert verify(5) is None
    assert server.EVENT.verify(request_meta(), b'{"url":"\xff"}', Source(id="s")) is None


@pytest.mark.parametrize("session", [None, "", "00000000-0000-0000-0000-000000000000"])
def test_an_event_without_a_session_gets_no_profile_and_no_identity_key(
    session: str | None,
) -> None:
    body = COMPACT | {"sid": session}
    events = parsed(hitkeep.DOOR, body, request_meta(Origin=PAGE))
    assert not events.wants_profile  # and so no session, unless a mapping names somebody
    event = event_of(hitkeep.DOOR, body, request_meta(Origin=PAGE))
    assert identity_key(event.profile_id, event.user_id, event.anonymous_id, event.session_id) == ""


def test_the_session_id_is_the_identity_key() -> None:
    events = parsed(hitkeep.DOOR, COMPACT, request_meta(Origin=PAGE))
    assert (events.wants_profile, events.wants_session) == (True, True)
    event = event_of(hitkeep.DOOR, COMPACT, request_meta(Origin=PAGE))
    key = identity_key(event.profile_id, event.user_id, event.anonymous_id, event.session_id)
    assert key == f"s:{SESSION}"


@pytest.mark.parametrize(
    ("door", "body"),
    [
        (hitkeep.DOOR, DOCUMENTED),
        (views.DOOR, VIEW),
        (server.EVENT, CALL),
        (server.VIEW, CALL),
    ],
)
@pytest.mark.parametrize("way", ["DNT", "Sec_GPC", "body", "body, not of its shape"])
def test_events_of_a_visitor_who_opts_out_are_dropped_with_202(
    door: Door, body: dict[str, Any], way: str
) -> None:
    headers = {"Origin": PAGE} | ({way: "1"} if way in ("DNT", "Sec_GPC") else {})
    if way == "body":
        body = body | {"dnt": True}
    elif "shape" in way:
        body = body | {"dnt": "yes", "referrer": 5}
    events = parsed(door, body, request_meta(**headers))
    assert (events.declined, list(events.events)) == (1, [])
    assert door.declines(request_meta(**headers)) == (way in ("DNT", "Sec_GPC"))
    answer = door.reply(request_meta(**headers), events, Outcome([], []))
    assert (answer.status, answer.body) == (202, b"")


@pytest.mark.parametrize("said", [{"DNT": "0"}, {"Sec_GPC": "0"}, {"DNT": "unspecified"}, {}])
def test_events_of_a_visitor_who_does_not_opt_out_are_kept(said: dict[str, str]) -> None:
    events = parsed(hitkeep.DOOR, COMPACT | {"dnt": False}, request_meta(Origin=PAGE, **said))
    assert (events.declined, len(events.events)) == (0, 1)


@pytest.mark.parametrize(
    ("door", "change", "refusal"),
    [
        (hitkeep.DOOR, {"n": None}, ("missing", "name")),
        (hitkeep.DOOR, {"n": " "}, ("invalid_name", "n")),
        (hitkeep.DOOR, {"n": 5}, ("wrong_type", "n")),
        (hitkeep.DOOR, {"p": []}, ("wrong_type", "p")),
        (hitkeep.DOOR, {"sid": "x" * 256}, ("too_long", "sid")),
        (hitkeep.DOOR, {"n": None, "name": ""}, ("invalid_name", "name")),
        (hitkeep.DOOR, {"n": None, "name": "a", "props": "b"}, ("wrong_type", "props")),
        (views.DOOR, {"path": None}, ("wrong_type", "path")),
        (views.DOOR, {"path": ""}, ("empty", "path")),
        (views.DOOR, {"vp_w": "wide"}, ("wrong_type", "vp_w")),
        (server.EVENT, {"name": None}, ("missing", "name")),
        (server.EVENT, {"url": "/x"}, ("invalid_url", "url")),
        (server.EVENT, {"timestamp": "yesterday"}, ("invalid_time", "timestamp")),
        (server.EVENT, {"timestamp": "2025-04-15T12:00:00"}, ("invalid_time", "timestamp")),
        (server.EVENT, {"timestamp": "2125-04-15T12:00:00Z"}, ("in_future", "timestamp")),
        (server.EVENT, {"visitor_ip": "home"}, ("invalid_address", "visitor_ip")),
        (server.EVENT, {"user_agent": " "}, ("empty", "user_agent")),
    ],
)
def test_a_refusal_names_the_field_as_the_client_spells_it(
    door: Door, change: dict[str, Any], refusal: tuple[str, str]
) -> None:
    whole: dict[str, Any] = COMPACT if door is hitkeep.DOOR else CALL
    whole = VIEW if door is views.DOOR else whole
    found = refusal_of(door, whole | change, request_meta(Origin=PAGE, X_Api_Key="k"))
    assert (found.code, found.field) == refusal
    answer = door.reply(request_meta(), ParsedEvents(), Outcome([], [Refused(0, "", found)]))
    assert answer.status == 422
    assert json.loads(answer.body)["detail"].startswith(found.field)


@pytest.mark.parametrize("field", ["url", "timestamp", "visitor_ip", "user_agent"])
def test_a_server_event_without_a_required_field_is_rejected(field: str) -> None:
    body = {name: value for name, value in CALL.items() if name != field}
    for door in (server.EVENT, server.VIEW):
        assert refusal_of(door, body, request_meta())[:2] == ("missing", field)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_body"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_body"),
        (b'"x"', "invalid_body"),
        (b'{"n": "\xff"}', "invalid_utf8"),
        (b'{"n": "\\ud83d"}', "invalid_json"),
        (b'{"n":"a","p":' + b"[" * 100_000, "too_deep"),
    ],
)
def test_an_unreadable_body_is_rejected_and_attributed_to_its_site(body: bytes, code: str) -> None:
    found = body_problem_of(hitkeep.DOOR.parse, request_meta(Origin=PAGE), body, LIMITS)
    assert (found.problem.code, found.credentials) == (code, Credentials(site="shop.example"))
    assert problem_of(hitkeep.DOOR.parse, request_meta(), body, LIMITS).code == code


@pytest.mark.parametrize("body", [b'{"n": 5, "x": ', b'{"site_id": "\\ud83d", "n": 5}', b"[5"])
def test_invalid_json_is_reported_even_when_a_field_is_also_wrong(body: bytes) -> None:
    assert problem_of(hitkeep.DOOR.parse, request_meta(), body, LIMITS).code == "invalid_json"


@given(st.binary(max_size=100))
def test_any_body_yields_events_or_a_problem(body: bytes) -> None:
    for door in (hitkeep.DOOR, views.DOOR, server.EVENT):
        for text in (body, b'{"url":5,' + body, b'{"n":5,"site_id":"' + body):
            assert isinstance(parse(door, request_meta(), text, LIMITS), ParsedEvents | Problem)
            assert door.verify(request_meta(), text, Source(id="shop")) is None


def test_the_idempotency_key_header_becomes_the_idempotency_key() -> None:
    event = event_of(hitkeep.DOOR, DOCUMENTED, request_meta(Idempotency_Key=" order-1 "))
    assert event.idempotency_key == "order-1"
