"""UserFlux's doors accept what its SDKs send and recognise a repeated event by its bytes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.doors import parse, problem_of, validated
from weir.gateway.doors.userflux.door import (
    BATCH,
    EVENT,
    PROFILE,
    WINDOW_SECONDS,
    UserFluxDoor,
    split_batch,
)
from weir.gateway.http.error_codes import Problem, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.parsed_events import BodyLimits, ParsedEvents
from weir.gateway.ingest.validation import Event

NOW = 1_790_000_000_000
LIMITS = BodyLimits(events=3, body_bytes=1_000_000)
# As the browser's SDK writes it: JSON.stringify, this order of members.
EVENT_SENT: dict[str, Any] = {
    "timestamp": NOW - 1_500,
    "userId": None,
    "anonymousId": "8be8ba23-cd9d-4137-b4d3-0a41cb01a0d4",
    "externalId": None,
    "sessionId": "5ac4ae0a-36ba-4b61-90f3-3a5a2b73a3d9",
    "name": "page_view",
    "properties": {"host": "shop.example", "path": "/", "pageTitle": "Shop"},
    "deviceData": {"browser": "Firefox", "screenWidth": 1920},
}


def request_meta(query: str = "") -> RequestMeta:
    headers = CIMultiDictProxy(CIMultiDict[str]())
    return RequestMeta("POST", "/event/ingest/batch", query, {}, headers, "", NOW)


def text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def parsed(body: bytes, door: UserFluxDoor = BATCH, query: str = "") -> ParsedEvents:
    return door.parse(request_meta(query), body, LIMITS)


def checked(body: bytes, door: UserFluxDoor = BATCH, query: str = "") -> list[Event | Refusal]:
    return [event for _, event in validated(parsed(body, door, query), NOW)]


def event_of(query: str = "", **members: Any) -> Event:
    (event,) = checked(text({"events": [EVENT_SENT | members]}), query=query)
    assert isinstance(event, Event)
    return event


def refusal_of(**members: Any) -> tuple[str, str]:
    (found,) = checked(text({"events": [EVENT_SENT | members]}))
    assert isinstance(found, Refusal)
    return found.code, found.field


def test_an_sdk_event_is_mapped_to_weirs_fields() -> None:
    event = event_of(userId="ada")
    assert (event.name, event.user_id) == ("page_view", "ada")
    assert (event.anonymous_id, event.session_id) == (
        EVENT_SENT["anonymousId"],
        EVENT_SENT["sessionId"],
    )
    assert event.occurred_at == NOW - 1_500
    assert event.properties == text(EVENT_SENT["properties"])


def test_device_data_external_id_and_location_enrichment_go_into_the_context() -> None:
    event = event_of("locationEnrichment=true", externalId='x"1')
    assert json.loads(event.context) == {
        "device": EVENT_SENT["deviceData"],
        "external_id": 'x"1',
        "location_enrichment": True,
    }
    bare = event_of("locationEnrichment=false", deviceData=None)
    assert json.loads(bare.context) == {"location_enrichment": False}


@pytest.mark.parametrize("query", ["", "locationEnrichment=undefined", "locationEnrichment", "a=b"])
def test_location_enrichment_is_omitted_from_the_context_when_not_specified(query: str) -> None:
    assert event_of(query, deviceData=None).context == b"{}"


def test_a_repeated_event_has_the_same_idempotency_key_in_any_batch() -> None:
    one, other = text(EVENT_SENT), text(EVENT_SENT | {"name": "click"})
    first = checked(b'{"events":[' + one + b"]}")
    again = checked(b'{"events": [' + other + b" , " + one + b"]}")
    assert isinstance(first[0], Event)
    assert isinstance(again[0], Event)
    assert isinstance(again[1], Event)
    assert first[0].idempotency_key == again[1].idempotency_key
    assert first[0].idempotency_key != again[0].idempotency_key
    assert first[0].idempotency_key.startswith("userflux-")
    assert parsed(b'{"events":[' + one + b"]}").window_seconds == WINDOW_SECONDS


@pytest.mark.parametrize(
    "change",
    [
        {"anonymousId": "other"},
        {"userId": "other"},
        {"name": "other"},
        {"timestamp": NOW - 1_499},
        {"properties": {}},
        {"deviceData": None},
    ],
)
def test_a_changed_id_name_time_or_payload_changes_the_idempotency_key(
    change: dict[str, Any],
) -> None:
    assert event_of(**change).idempotency_key != event_of().idempotency_key


def test_a_changed_member_order_changes_the_idempotency_key() -> None:
    turned = dict(reversed(EVENT_SENT.items()))
    (event,) = checked(text({"events": [turned]}))
    assert isinstance(event, Event)
    assert event.idempotency_key != event_of().idempotency_key


def test_an_event_without_a_timestamp_gets_no_idempotency_key() -> None:
    untimed = {k: v for k, v in EVENT_SENT.items() if k != "timestamp"}
    for sent in (untimed, untimed | {"timestamp": None}):
        (event,) = checked(text({"events": [sent]}))
        assert isinstance(event, Event)
        assert (event.idempotency_key, event.occurred_at) == ("", None)


def test_a_single_event_is_parsed_as_in_a_batch() -> None:
    body = text(EVENT_SENT)
    assert checked(body, EVENT) == checked(b'{"events":[' + body + b"]}")


def test_a_profile_becomes_an_identify_event_with_traits() -> None:
    sent = {
        "userId": "ada",
        "externalId": None,
        "anonymousId": "a-1",
        "properties": {"plan": "pro"},
        "deviceData": {"os": "Linux"},
    }
    (event,) = checked(text(sent), PROFILE, "locationEnrichment=true")
    assert isinstance(event, Event)
    assert (event.name, event.user_id, event.anonymous_id) == ("$identify", "ada", "a-1")
    assert event.properties == b'{"plan":"pro"}'
    assert json.loads(event.context) == {"device": {"os": "Linux"}, "location_enrichment": True}


def test_a_profile_gets_no_idempotency_key_since_traits_may_be_set_back() -> None:
    (event,) = checked(text({"userId": "ada", "properties": {"plan": "pro"}}), PROFILE)
    assert isinstance(event, Event)
    assert event.idempotency_key == ""


@pytest.mark.parametrize("nobody", ["null", "undefined", "", "  ", None])
def test_a_null_undefined_or_blank_id_is_treated_as_absent(nobody: str | None) -> None:
    event = event_of(userId=nobody, anonymousId=nobody, sessionId=nobody)
    assert (event.user_id, event.anonymous_id, event.session_id) == ("", "", "")


def test_ids_may_be_integers() -> None:
    event = event_of(userId=2**70, anonymousId=7, externalId=9)
    assert (event.user_id, event.anonymous_id) == (str(2**70), "7")
    assert json.loads(event.context)["external_id"] == 9


def test_arrays_and_nested_objects_keep_their_bytes() -> None:
    written = b'{"items": [{"sku":"A1", "tags":["new",null]}, 2.50],"a":{"b":{"c":[[]]}}}'
    body = text({"events": [EVENT_SENT]}).replace(text(EVENT_SENT["properties"]), written)
    (event,) = checked(body)
    assert isinstance(event, Event)
    assert event.properties == written


def test_the_number_of_properties_is_not_limited() -> None:
    many = {f"property{n}": [n, {"nested": True}] for n in range(2_500)}
    event = event_of(properties=many)
    assert len(event.properties) > 90_000
    assert json.loads(event.properties) == many


def test_an_event_larger_than_100_kib_is_rejected() -> None:
    assert refusal_of(properties={"note": "x" * 102_400}) == ("too_large", "")


@pytest.mark.parametrize("name", ["sign up", " signup", "signup\n", "sign\u3000up"])
def test_an_event_name_with_whitespace_is_rejected(name: str) -> None:
    assert refusal_of(name=name) == ("invalid_name", "name")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": None}, ("wrong_type", "name")),
        ({"name": 7}, ("wrong_type", "name")),
        ({"timestamp": "soon"}, ("invalid_time", "timestamp")),
        ({"timestamp": -(10**13)}, ("too_early", "timestamp")),
        ({"userId": ["ada"]}, ("wrong_type", "userId")),
        ({"anonymousId": "a\0b"}, ("control_character", "anonymousId")),
        ({"sessionId": "x" * 256}, ("too_long", "sessionId")),
        ({"externalId": {}}, ("wrong_type", "externalId")),
        ({"properties": [1]}, ("wrong_type", "properties")),
        ({"deviceData": "phone"}, ("wrong_type", "deviceData")),
    ],
)
def test_a_refusal_names_the_sdks_field(change: dict[str, Any], expected: tuple[str, str]) -> None:
    assert refusal_of(**change) == expected


@pytest.mark.parametrize("ahead", [NOW + 3_600_001, "2999-01-01T00:00:00Z"])
def test_a_timestamp_too_far_in_the_future_is_dropped_and_the_event_accepted(
    ahead: int | str,
) -> None:
    """An event from a clock that is ahead is accepted: the SDK takes a rejection for a success."""
    event = event_of(timestamp=ahead)
    assert event.occurred_at is None  # when it was received
    assert event.idempotency_key == event_of(timestamp=ahead).idempotency_key
    assert event_of(timestamp=NOW + 3_600_000).occurred_at == NOW + 3_600_000


def test_an_invalid_event_does_not_reject_its_neighbours() -> None:
    parts = [text(EVENT_SENT), b"7", b'{"anonymousId":"a"}']
    found = checked(b'{"events":[' + b",".join(parts) + b"]}")
    assert [one.code if isinstance(one, Refusal) else one.name for one in found] == [
        "page_view",
        "not_an_object",
        "missing",
    ]


def test_half_a_surrogate_pair_rejects_only_its_own_event() -> None:
    cut = text(EVENT_SENT).replace(b'"Shop"', b'"Shop \\ud83d"')
    body = b'{"events":[' + cut + b"," + text(EVENT_SENT) + b"]}"
    assert parsed(body).events[0].raw == cut
    bad, good = checked(body)
    assert isinstance(bad, Refusal)
    assert bad.code == "invalid_json"
    assert isinstance(good, Event)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_body"),
        (b" \n", "empty_body"),
        (b"{", "invalid_json"),
        (b'{"a":"\xff"}', "invalid_utf8"),
        (b"[]", "invalid_body"),
        (b"{}", "invalid_body"),
        (b'{"events":{}}', "invalid_body"),
        (b'{"events":[]}', "no_events"),
        (b'{"events":[1,2,3,4]}', "too_many_events"),
        (b'{"events":' + b"[" * 100_000, "too_deep"),
    ],
)
def test_a_body_without_readable_events_is_rejected_as_a_whole(body: bytes, code: str) -> None:
    assert problem_of(split_batch, body, LIMITS.events).code == code


@given(st.binary(max_size=80) | st.text(max_size=40).map(str.encode))
def test_any_body_yields_events_or_a_problem(body: bytes) -> None:
    for door in (BATCH, EVENT, PROFILE):
        found = parse(door, request_meta(), body, LIMITS)
        if isinstance(found, ParsedEvents):
            assert len(validated(found, NOW)) == len(found)


def test_a_refusal_worth_retrying_soon_omits_cors_headers() -> None:
    """A refusal worth retrying omits CORS headers: the SDK takes any readable answer for a success."""
    cors = b"Access-Control-Allow-Origin: https://a.example\r\n"
    away = BATCH.refuse(request_meta(), Problem("unavailable", "x", "", 2), cors)
    assert (away.status, away.headers) == (503, b"Retry-After: 2\r\n")
    used_up = BATCH.refuse(request_meta(), Problem("quota_exceeded", "x", "", 86_400), cors)
    assert used_up.headers == cors + b"Retry-After: 86400\r\n"
    assert BATCH.refuse(request_meta(), Problem("invalid_json", "x"), cors).headers == cors
