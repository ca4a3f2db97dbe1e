"""Segment's doors follow its HTTP API for calls, write keys, times and answers."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.doors import body_problem_of, problem_of, validated
from weir.gateway.doors.segment.door import BATCH, DOORS
from weir.gateway.doors.segment.parser import name_of
from weir.gateway.doors.segment.times import time_of
from weir.gateway.http.error_codes import Problem, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.parsed_events import (
    BodyLimits,
    BodyProblemError,
    Credentials,
    Outcome,
    ParsedEvents,
    Refused,
)
from weir.gateway.ingest.validation import Event

LIMITS = BodyLimits(events=3, body_bytes=4_000)
NOW = 1_795_262_400_000  # 2026-11-21T12:00:00Z
BASIC = {"Authorization": "Basic " + base64.b64encode(b"write-key:").decode()}
FIRST = "01890000-0000-7000-8000-000000000001"


def request_meta(query: str = "", **headers: str) -> RequestMeta:
    return RequestMeta("POST", "/v1/x", query, {}, CIMultiDictProxy(CIMultiDict(headers)), "", NOW)


def parsed(path: str, body: Any, **headers: str) -> ParsedEvents:
    return DOORS[path].parse(request_meta(**headers), encoded(body), LIMITS)


def refused_whole(path: str, body: Any, **headers: str) -> BodyProblemError:
    return body_problem_of(DOORS[path].parse, request_meta(**headers), encoded(body), LIMITS)


def encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def checked(path: str, body: Any) -> list[tuple[bytes, Event | Refusal]]:
    events = parsed(path, body)
    found = validated(events, NOW)
    assert len(events) == len(found)
    return found


def taken(path: str, body: Any) -> Event:
    ((_, event),) = checked(path, body)
    assert isinstance(event, Event), event
    return event


def refused(path: str, body: Any) -> tuple[str, str]:
    ((_, refusal),) = checked(path, body)
    assert isinstance(refusal, Refusal), refusal
    return refusal.code, refusal.field


def track(**members: Any) -> dict[str, Any]:
    return {"userId": "u-1", "event": "Item Purchased"} | members


def properties(event: Event) -> Any:
    return json.loads(event.properties)


def context(event: Event) -> Any:
    return json.loads(event.context)


# Who sends


def test_the_write_key_is_the_user_name_of_basic_authentication() -> None:
    assert BATCH.credentials(request_meta(**BASIC)) == Credentials("write-key")
    assert parsed("track", track(writeKey="other"), **BASIC).credentials == Credentials("write-key")


def test_the_write_key_is_read_from_the_body_when_there_is_no_header() -> None:
    assert BATCH.credentials(request_meta()) is None
    assert parsed("track", track(writeKey="k")).credentials == Credentials("k")
    assert parsed(
        "batch", {"batch": [track(type="track")], "writeKey": " k "}
    ).credentials == Credentials("k")


@pytest.mark.parametrize("key", [None, 12, "", ["k"]])
def test_a_body_without_a_valid_write_key_has_empty_credentials(key: Any) -> None:
    assert parsed("track", track(writeKey=key)).credentials == Credentials()


def test_an_unreadable_batch_is_rejected_with_its_sources_credentials() -> None:
    found = refused_whole("batch", {"batch": {}, "writeKey": "k"})
    assert found.credentials == Credentials("k")
    assert (found.problem.code, found.problem.field) == ("invalid_body", "batch")


def test_the_write_key_is_removed_from_the_stored_event() -> None:
    for path, body in (
        ("track", track(writeKey="secret")),
        ("batch", {"batch": [track(type="track", writeKey="secret")], "writeKey": "secret"}),
    ):
        ((raw, event),) = checked(path, body)
        assert isinstance(event, Event)
        assert b"secret" not in raw + event.context + event.properties


# What a call is


def test_a_track_call_becomes_an_event_with_properties_and_context() -> None:
    event = taken(
        "track",
        track(anonymousId="a-1", properties={"revenue": 14.99}, context={"ip": "24.5.68.47"}),
    )
    assert (event.user_id, event.anonymous_id) == ("u-1", "a-1")
    assert (properties(event), context(event)) == ({"revenue": 14.99}, {"ip": "24.5.68.47"})


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("Item Purchased", "Item Purchased"),
        ("item_purchased", "item_purchased"),
        ("Ünïcode – Ereignis 🎉", "Ünïcode – Ereignis 🎉"),
        ("two  spaces", "two  spaces"),
        (" Item Purchased\n", "Item Purchased"),
        ("tab\there", "tab here"),
        ("nul\0here", "nul here"),
        ("no\u00a0break", "no break"),
        ("$identify", "_$identify"),
        (" $x", "_$x"),
        ("ss_x", "_ss_x"),
        ("x" * 300, "x" * 255),
    ],
)
def test_any_track_name_is_accepted_and_a_changed_original_is_kept_in_the_context(
    called: str, name: str
) -> None:
    event = taken("track", track(event=called, context={"a": 1}))
    assert event.name == name
    kept = {} if called == name else {"event": called}
    assert context(event) == {"a": 1, **kept}


@given(st.text(min_size=1))
def test_a_track_name_is_rejected_only_when_it_is_blank(called: str) -> None:
    body = json.dumps(track(event=called)).encode()
    if name_of(called):
        assert taken("track", body).name == name_of(called)
    else:
        assert refused("track", body) == ("missing", "event")


@pytest.mark.parametrize("event", [None, "", "  "])
def test_a_track_call_without_an_event_name_is_rejected(event: Any) -> None:
    assert refused("track", track(event=event)) == ("missing", "event")
    assert refused("track", {"userId": "u"}) == ("missing", "event")


def test_an_identify_call_becomes_an_identify_event_with_traits() -> None:
    event = taken("identify", {"userId": "u-1", "traits": {"email": "p@example.com"}})
    assert (event.name, properties(event)) == ("$identify", {"email": "p@example.com"})


@pytest.mark.parametrize(
    ("traits", "merged"), [({"a": 1}, {"a": 1, "b": 0}), ({}, {"a": 0, "b": 0}),
                           (None, {"a": 0, "b": 0})],
)  # fmt: skip
def test_identify_merges_context_traits_under_its_own_traits(traits: Any, merged: Any) -> None:
    body = {"userId": "u-1", "traits": traits, "context": {"traits": {"a": 0, "b": 0}}}
    event = taken("identify", body)
    assert properties(event) == merged
    assert context(event) == {"traits": {"a": 0, "b": 0}}


def test_context_traits_of_a_track_call_are_not_applied() -> None:
    event = taken("track", track(context={"traits": {"a": 1}}))
    assert (event.name, properties(event)) == ("Item Purchased", {})


@pytest.mark.parametrize(("path", "name"), [("page", "page_view"), ("screen", "screen_view")])
def test_page_and_screen_store_name_and_category_in_their_properties(path: str, name: str) -> None:
    body = {
        "userId": "u-1",
        "name": "Home",
        "category": "Docs",
        "properties": {"url": "/", "name": "x"},
    }
    event = taken(path, body)
    assert event.name == name
    assert properties(event) == {"url": "/", "name": "Home", "category": "Docs"}
    assert properties(taken(path, {"userId": "u-1", "name": None, "properties": None})) == {}
    assert properties(taken(path, {"userId": "u-1", "name": "Home"})) == {"name": "Home"}


def test_event_names_set_by_the_door_are_exempt_from_casing() -> None:
    for path in ("page", "batch"):
        events = parsed(path, {"batch": [track(type="page")], "userId": "u"})
        names = {getattr(event, "name", "$identify") for _, event in validated(events, NOW)}
        assert names <= events.policy.uncased_names


def test_a_group_call_becomes_an_event_with_group_id_and_traits() -> None:
    event = taken("group", {"userId": "u-1", "groupId": 17, "traits": {"name": "Initech"}})
    assert event.name == "group"
    assert properties(event) == {"groupId": "17", "traits": {"name": "Initech"}}
    assert properties(taken("group", {"userId": "u", "groupId": "g"})) == {"groupId": "g"}
    assert refused("group", {"userId": "u-1", "groupId": " "}) == ("missing", "groupId")


def test_an_alias_call_stores_previous_id_as_anonymous_id_beside_user_id() -> None:
    event = taken("alias", {"previousId": "anon-1", "userId": "u-1", "anonymousId": "device"})
    assert (event.name, event.anonymous_id, event.user_id) == ("alias", "anon-1", "u-1")
    assert properties(event) == {"previousId": "anon-1", "anonymousId": "device"}


def test_an_alias_call_without_both_identifiers_is_rejected() -> None:
    assert refused("alias", {"userId": "u-1"}) == ("missing", "previousId")
    assert refused("alias", {"previousId": "a", "anonymousId": "b"}) == ("missing", "userId")


@pytest.mark.parametrize("path", ["track", "identify", "page", "screen", "group"])
def test_a_call_without_user_id_and_anonymous_id_is_rejected(path: str) -> None:
    body = {"event": "e", "groupId": "g", "name": "n"}
    assert refused(path, body) == ("missing", "userId")
    assert refused(path, body | {"userId": " ", "anonymousId": None}) == ("missing", "userId")
    assert taken(path, body | {"userId": "", "anonymousId": "a"}).anonymous_id == "a"
    assert taken(path, body | {"userId": 0}).user_id == "0"


def test_the_message_id_is_the_idempotency_key() -> None:
    assert taken("track", track(messageId="m-1")).idempotency_key == "m-1"
    assert taken("track", track(messageId=12)).idempotency_key == "12"
    assert taken("track", track(messageId="")).idempotency_key == ""
    assert refused("track", track(messageId="m" * 256)) == ("too_long", "messageId")


def test_integrations_and_unknown_members_are_ignored() -> None:
    event = taken("track", track(integrations={"All": False}, version=2, email="x", channel="s"))
    assert (properties(event), context(event)) == ({}, {})


@pytest.mark.parametrize(
    ("members", "code", "field"),
    [
        ({"event": 12}, "wrong_type", "event"),
        ({"userId": {}}, "wrong_type", "userId"),
        ({"anonymousId": True}, "wrong_type", "anonymousId"),
        ({"messageId": []}, "wrong_type", "messageId"),
        ({"properties": [1]}, "wrong_type", "properties"),
        ({"context": "x"}, "wrong_type", "context"),
        ({"timestamp": "yesterday"}, "invalid_time", "timestamp"),
        ({"timestamp": "2012-13-45"}, "invalid_time", "timestamp"),
        ({"originalTimestamp": {}}, "invalid_time", "originalTimestamp"),
        ({"userId": "nul\0"}, "control_character", "userId"),
    ],
)
def test_a_call_with_an_invalid_field_is_rejected_by_field_name(
    members: Any, code: str, field: str
) -> None:
    assert refused("track", track(**members)) == (code, field)


@pytest.mark.parametrize("body", [b"[]", b"12", b'"x"'])
def test_a_call_that_is_not_an_object_is_rejected(body: bytes) -> None:
    assert refused("track", body) == ("not_an_object", "")


# When


def test_the_timestamp_becomes_occurred_at() -> None:
    assert taken("track", track(timestamp="2012-12-02T00:30:12.984Z")).occurred_at == 1354408212984
    assert taken("track", track()).occurred_at is None  # when received


@pytest.mark.parametrize(
    ("text", "epoch_ms"),
    [
        ("2012-12-02T00:30:12.984Z", 1354408212984),
        ("2012-12-02T01:30:12.984+01:00", 1354408212984),
        ("2012-12-02T01:30:12,984+0100", 1354408212984),
        ("2012-12-01T23:30:12-01", 1354408212000),
        ("2012-12-02T00:30:12.984123", 1354408212984),
        ("2012-12-02 00:30", 1354408200000),
        ("2012-12-02", 1354406400000),
        ("2015-2-02T00:30:12.984Z", 1422837012984),  # as the documentation has it
        ("2016-12-31T23:59:60Z", 1483228799000),
    ],
)
def test_iso_8601_timestamps_are_parsed(text: str, epoch_ms: int) -> None:
    assert taken("track", track(timestamp=text)).occurred_at == epoch_ms
    assert time_of(json.dumps(text).encode()) == epoch_ms


def test_clock_skew_is_corrected_by_sent_at() -> None:
    """A timestamp 10 s before `sentAt` becomes 10 s before receipt, though the clock is a day ahead."""
    early = {"timestamp": "2026-11-22T11:59:50Z"}
    sent_at = "2026-11-22T12:00:00Z"
    assert taken("track", track(**early, sentAt=sent_at)).occurred_at == NOW - 10_000
    batch = {"batch": [track(type="track", **early)], "sentAt": sent_at}
    assert taken("batch", batch).occurred_at == NOW - 10_000
    batch["batch"] = [track(type="track", **early, sentAt="2026-11-22T12:00:05Z")]
    assert taken("batch", batch).occurred_at == NOW - 15_000  # the call's own counts


def test_timestamps_are_not_corrected_without_a_usable_sent_at() -> None:
    unusable: list[Any] = [None, "soon", [], {}, ""]
    for sent_at in unusable:
        single = track(timestamp=NOW - 5_000, sentAt=sent_at)
        assert taken("track", single).occurred_at == NOW - 5_000
        batch = {"batch": [track(type="track", timestamp=NOW - 5_000)], "sentAt": sent_at}
        assert taken("batch", batch).occurred_at == NOW - 5_000


def test_original_timestamp_is_used_when_timestamp_is_missing() -> None:
    event = taken("track", track(originalTimestamp=NOW - 9_000, sentAt=NOW - 1_000))
    assert event.occurred_at == NOW - 8_000


def test_a_call_with_timestamp_and_original_timestamp_is_not_corrected_again() -> None:
    members = {"timestamp": NOW - 7_000, "originalTimestamp": 0, "sentAt": 5_000}
    assert taken("track", track(**members)).occurred_at == NOW - 7_000


def test_a_timestamp_too_far_in_the_future_is_dropped_and_the_call_accepted() -> None:
    """A call from a clock that is ahead is accepted without `sentAt`: clients do not send again."""
    ahead = track(timestamp=NOW + 3_600_001)
    assert taken("track", ahead).occurred_at is None  # when it was received
    assert taken("batch", {"batch": [ahead | {"type": "track"}]}).occurred_at is None
    assert taken("track", track(timestamp=NOW + 3_600_000)).occurred_at == NOW + 3_600_000


@pytest.mark.parametrize(
    "sent_at",
    [
        0,
        5_000,
        "1999-12-31T23:59:59Z",
        NOW - 3_610_000,  # an hour before the call was made: it would be yet to come
        "9999-12-31T23:59:59Z",  # before 1900, if that were so
    ],
)
def test_an_implausible_sent_at_corrects_nothing(sent_at: int | str) -> None:
    call = track(timestamp=NOW - 5_000)
    assert taken("track", call | {"sentAt": sent_at}).occurred_at == NOW - 5_000
    batch = {"batch": [call | {"type": "track"}], "sentAt": sent_at}
    assert taken("batch", batch).occurred_at == NOW - 5_000


def test_a_sent_at_rounded_down_to_the_second_still_corrects_the_timestamp() -> None:
    call = track(timestamp=NOW + 86_400_500, sentAt=NOW + 86_400_000)
    assert taken("track", call).occurred_at == NOW + 500


@given(st.integers(-8 * 10**11, 10**12), st.integers(0, 10**9))
def test_sent_at_corrects_any_clock_skew(skew: int, age: int) -> None:
    body = track(timestamp=NOW + skew - age, sentAt=NOW + skew)
    assert taken("track", body).occurred_at == NOW - age


# Batches


def test_a_batch_may_contain_calls_of_every_type() -> None:
    calls = [
        track(type="track"),
        {"type": "identify", "userId": "u", "traits": {"a": 1}},
        {"type": "page", "anonymousId": "a"},
    ]
    names = [getattr(event, "name", None) for _, event in checked("batch", {"batch": calls})]
    assert names == ["Item Purchased", "$identify", "page_view"]
    assert checked("import", {"batch": calls}) == checked("batch", {"batch": calls})


def test_a_batch_call_with_a_missing_or_unknown_type_is_rejected() -> None:
    assert refused("batch", {"batch": [track()]}) == ("missing", "type")
    assert refused("batch", {"batch": [track(type="buy")]}) == ("unknown_type", "type")


def test_the_path_overrides_the_type_of_a_single_call() -> None:
    assert taken("page", {"type": "track", "userId": "u"}).name == "page_view"


def test_the_batch_context_is_merged_under_each_calls_context() -> None:
    batch = {
        "batch": [track(type="track", context={"ip": "1.2.3.4"}), track(type="track")],
        "context": {"device": {"type": "phone"}, "ip": "0.0.0.0"},
    }
    first, second = (event for _, event in checked("batch", batch))
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert context(first) == {"device": {"type": "phone"}, "ip": "1.2.3.4"}
    assert context(second) == batch["context"]


def test_an_invalid_call_does_not_reject_other_calls_of_the_batch() -> None:
    body = b'{"batch": [{"type": "track", "userId": "u", "event": "\\ud83d"}, {"type": "track",'
    body += b' "userId": "u", "event": "fine", "properties": {"a": "\\ud83d\\ude00"}}]}'
    (_, bad), (raw, good) = checked("batch", body)
    assert isinstance(bad, Refusal)
    assert bad.code == "invalid_json"
    assert isinstance(good, Event)
    assert raw in body
    assert properties(good) == {"a": "😀"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_body"),
        (b"  ", "empty_body"),
        (b'{"batch": [}', "invalid_json"),
        (b'{"batch": []}', "no_events"),
        (b"{}", "invalid_body"),
        (b"[]", "invalid_body"),
        (b'{"batch": [{}, {}, {}, {}]}', "too_many_events"),
        (b'{"batch": [{}], "context": 1}', "invalid_context"),
        (b'{"batch": [{}], "context": {"a": "\\ud83d"}}', "invalid_context"),
        (b'{"batch": ' + b"[" * 5_000, "too_deep"),
    ],
)
def test_an_invalid_batch_is_rejected_as_a_whole(body: bytes, code: str) -> None:
    assert refused_whole("batch", body, **BASIC).problem.code == code


def test_a_body_that_is_not_utf8_is_rejected_as_a_whole() -> None:
    for path in ("batch", "track"):
        problem = problem_of(DOORS[path].parse, request_meta(**BASIC), b'{"event": "\xff"}', LIMITS)
        assert problem.code == "invalid_utf8"


def test_an_empty_call_is_refused() -> None:
    assert refused_whole("track", b" ", **BASIC).problem.code == "empty_body"


def test_a_retry_has_the_same_payload_bytes_despite_a_later_sent_at() -> None:
    first, second = (
        checked(path, body)[0][0]
        for path, body in (
            ("track", track(messageId="m", sentAt="2026-11-21T12:00:00Z")),
            ("track", track(messageId="m", sentAt="2026-11-21T12:00:09Z")),
        )
    )
    assert first == second
    call = track(type="track", messageId="m")
    tries = [checked("batch", {"sentAt": at, "batch": [call]})[0][0] for at in (NOW, NOW + 9)]
    assert tries == [json.dumps(call).encode()] * 2


# Answers


def answered(path: str, body: Any, outcome: Outcome) -> tuple[int, Any]:
    answer = DOORS[path].reply(request_meta(), parsed(path, body), outcome)
    return answer.status, json.loads(answer.body)


def test_accepted_calls_are_answered_with_success() -> None:
    assert answered("track", track(), Outcome([FIRST], [])) == (200, {"success": True})


def test_rejected_calls_of_a_batch_are_listed_beside_success() -> None:
    batch = {"batch": [track(type="track"), {"type": "track", "messageId": "m-2"}]}
    events = parsed("batch", batch)
    refusal = Refusal("missing", "userId", "is missing")
    bad = Refused(1, BATCH.client_id(events.events[1]), refusal)
    status, body = answered("batch", batch, Outcome([FIRST], [bad], ["odd"]))
    assert status == 200
    assert body["success"] is True
    assert body["warnings"] == ["odd"]
    (one,) = body["rejected"]
    assert (one["index"], one["messageId"], one["code"]) == (1, "m-2", "missing")
    assert (one["field"], one["message"]) == ("userId", "userId is missing")


def test_a_request_with_no_accepted_call_returns_400_with_an_error() -> None:
    bad = Refused(0, "", Refusal("missing", "event", "is missing"))
    status, body = answered("track", {"userId": "u"}, Outcome([], [bad]))
    assert status == 400
    assert body["success"] is False
    assert body["error"] == {"code": "missing", "message": "event is missing"}
    # where the official Python client looks for them
    assert (body["code"], body["message"]) == ("missing", "event is missing")


def test_a_refused_request_returns_a_segment_error_with_retry_after() -> None:
    answer = BATCH.refuse(
        request_meta(), Problem("quota_exceeded", "All used.", "", 7), b"X: y\r\n"
    )
    assert answer.status == 429
    assert answer.headers == b"X: y\r\nRetry-After: 7\r\n"
    body = json.loads(answer.body)
    assert (body["success"], body["error"]["code"]) == (False, "quota_exceeded")
    unknown = BATCH.refuse(request_meta(), Problem("unauthorized", "Send it.", ""))
    assert unknown.status == 401
    assert "writeKey" in json.loads(unknown.body)["message"]


def test_every_documented_path_and_its_one_letter_alias_has_a_door() -> None:
    documented = {"track", "identify", "page", "screen", "group", "alias", "batch", "import"}
    assert set(DOORS) == documented | set("tipsgab")
    for path in documented - {"import"}:
        assert DOORS[path[0]] is DOORS[path]
