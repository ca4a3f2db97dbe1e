"""Segment's doors: what its HTTP API documents of calls, keys, times and answers."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from tests.doors import body_problem_of, problem_of, validated
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


def test_the_write_key_may_be_in_the_body_when_there_is_no_header() -> None:
    assert BATCH.credentials(request_meta()) is None
    assert parsed("track", track(writeKey="k")).credentials == Credentials("k")
    assert parsed(
        "batch", {"batch": [track(type="track")], "writeKey": " k "}
    ).credentials == Credentials("k")


@pytest.mark.parametrize("key", [None, 12, "", ["k"]])
def test_a_body_without_a_write_key_is_nobodys(key: Any) -> None:
    assert parsed("track", track(writeKey=key)).credentials == Credentials()


def test_a_batch_that_cannot_be_read_is_still_its_sources_to_mend() -> None:
    found = refused_whole("batch", {"batch": {}, "writeKey": "k"})
    assert found.credentials == Credentials("k")
    assert (found.problem.code, found.problem.field) == ("invalid_body", "batch")


def test_the_write_key_is_not_kept_with_the_event() -> None:
    for path, body in (
        ("track", track(writeKey="secret")),
        ("batch", {"batch": [track(type="track", writeKey="secret")], "writeKey": "secret"}),
    ):
        ((raw, event),) = checked(path, body)
        assert isinstance(event, Event)
        assert b"secret" not in raw + event.context + event.properties


# What a call is


def test_track_is_an_event_with_properties() -> None:
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
def test_any_name_of_a_track_call_is_taken_and_what_was_called_is_kept(
    called: str, name: str
) -> None:
    event = taken("track", track(event=called, context={"a": 1}))
    assert event.name == name
    kept = {} if called == name else {"event": called}
    assert context(event) == {"a": 1, **kept}


@given(st.text(min_size=1))
def test_no_name_but_a_blank_one_is_refused(called: str) -> None:
    body = json.dumps(track(event=called)).encode()
    if name_of(called):
        assert taken("track", body).name == name_of(called)
    else:
        assert refused("track", body) == ("missing", "event")


@pytest.mark.parametrize("event", [None, "", "  "])
def test_every_track_call_has_an_event(event: Any) -> None:
    assert refused("track", track(event=event)) == ("missing", "event")
    assert refused("track", {"userId": "u"}) == ("missing", "event")


def test_identify_sets_traits() -> None:
    event = taken("identify", {"userId": "u-1", "traits": {"email": "p@example.com"}})
    assert (event.name, properties(event)) == ("$identify", {"email": "p@example.com"})


@pytest.mark.parametrize(
    ("traits", "merged"), [({"a": 1}, {"a": 1, "b": 0}), ({}, {"a": 0, "b": 0}),
                           (None, {"a": 0, "b": 0})],
)  # fmt: skip
def test_identify_takes_the_traits_of_the_context_below_its_own(traits: Any, merged: Any) -> None:
    body = {"userId": "u-1", "traits": traits, "context": {"traits": {"a": 0, "b": 0}}}
    event = taken("identify", body)
    assert properties(event) == merged
    assert context(event) == {"traits": {"a": 0, "b": 0}}


def test_the_traits_of_another_calls_context_set_nothing() -> None:
    event = taken("track", track(context={"traits": {"a": 1}}))
    assert (event.name, properties(event)) == ("Item Purchased", {})


@pytest.mark.parametrize(("path", "name"), [("page", "page_view"), ("screen", "screen_view")])
def test_page_and_screen_have_name_and_category_among_their_properties(
    path: str, name: str
) -> None:
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


def test_the_names_that_the_door_gives_are_held_to_no_casing() -> None:
    for path in ("page", "batch"):
        events = parsed(path, {"batch": [track(type="page")], "userId": "u"})
        names = {getattr(event, "name", "$identify") for _, event in validated(events, NOW)}
        assert names <= events.policy.uncased_names


def test_group_has_the_groups_id_and_its_traits() -> None:
    event = taken("group", {"userId": "u-1", "groupId": 17, "traits": {"name": "Initech"}})
    assert event.name == "group"
    assert properties(event) == {"groupId": "17", "traits": {"name": "Initech"}}
    assert properties(taken("group", {"userId": "u", "groupId": "g"})) == {"groupId": "g"}
    assert refused("group", {"userId": "u-1", "groupId": " "}) == ("missing", "groupId")


def test_alias_carries_both_identifiers_so_that_they_are_linked() -> None:
    event = taken("alias", {"previousId": "anon-1", "userId": "u-1", "anonymousId": "device"})
    assert (event.name, event.anonymous_id, event.user_id) == ("alias", "anon-1", "u-1")
    assert properties(event) == {"previousId": "anon-1", "anonymousId": "device"}


def test_alias_needs_both_identifiers() -> None:
    assert refused("alias", {"userId": "u-1"}) == ("missing", "previousId")
    assert refused("alias", {"previousId": "a", "anonymousId": "b"}) == ("missing", "userId")


@pytest.mark.parametrize("path", ["track", "identify", "page", "screen", "group"])
def test_every_call_has_a_user_id_or_an_anonymous_id(path: str) -> None:
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


def test_integrations_and_other_members_are_passed_over() -> None:
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
def test_what_a_call_cannot_be_is_said_of_its_field(members: Any, code: str, field: str) -> None:
    assert refused("track", track(**members)) == (code, field)


@pytest.mark.parametrize("body", [b"[]", b"12", b'"x"'])
def test_a_call_is_an_object(body: bytes) -> None:
    assert refused("track", body) == ("not_an_object", "")


# When


def test_the_timestamp_is_when_it_occurred() -> None:
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
def test_timestamps_are_iso_8601(text: str, epoch_ms: int) -> None:
    assert taken("track", track(timestamp=text)).occurred_at == epoch_ms
    assert time_of(json.dumps(text).encode()) == epoch_ms


def test_a_wrong_clock_is_corrected_by_when_the_client_says_it_sent() -> None:
    """Its clock is a day ahead: ten seconds before it sent are ten seconds before it was received."""
    early = {"timestamp": "2026-11-22T11:59:50Z"}
    sent_at = "2026-11-22T12:00:00Z"
    assert taken("track", track(**early, sentAt=sent_at)).occurred_at == NOW - 10_000
    batch = {"batch": [track(type="track", **early)], "sentAt": sent_at}
    assert taken("batch", batch).occurred_at == NOW - 10_000
    batch["batch"] = [track(type="track", **early, sentAt="2026-11-22T12:00:05Z")]
    assert taken("batch", batch).occurred_at == NOW - 15_000  # the call's own counts


def test_without_sent_at_nothing_is_corrected() -> None:
    unusable: list[Any] = [None, "soon", [], {}, ""]
    for sent_at in unusable:
        single = track(timestamp=NOW - 5_000, sentAt=sent_at)
        assert taken("track", single).occurred_at == NOW - 5_000
        batch = {"batch": [track(type="track", timestamp=NOW - 5_000)], "sentAt": sent_at}
        assert taken("batch", batch).occurred_at == NOW - 5_000


def test_the_original_timestamp_stands_in_for_the_timestamp() -> None:
    event = taken("track", track(originalTimestamp=NOW - 9_000, sentAt=NOW - 1_000))
    assert event.occurred_at == NOW - 8_000


def test_a_call_that_was_corrected_before_is_not_corrected_again() -> None:
    members = {"timestamp": NOW - 7_000, "originalTimestamp": 0, "sentAt": 5_000}
    assert taken("track", track(**members)).occurred_at == NOW - 7_000


def test_a_clock_that_is_ahead_loses_no_call() -> None:
    """Without a `sentAt` to correct it by; the clients do not send again what was refused."""
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
def test_a_sent_at_that_cannot_be_corrects_nothing(sent_at: int | str) -> None:
    call = track(timestamp=NOW - 5_000)
    assert taken("track", call | {"sentAt": sent_at}).occurred_at == NOW - 5_000
    batch = {"batch": [call | {"type": "track"}], "sentAt": sent_at}
    assert taken("batch", batch).occurred_at == NOW - 5_000


def test_a_sent_at_to_the_second_may_seem_earlier_than_its_call() -> None:
    call = track(timestamp=NOW + 86_400_500, sentAt=NOW + 86_400_000)
    assert taken("track", call).occurred_at == NOW + 500


@given(st.integers(-8 * 10**11, 10**12), st.integers(0, 10**9))
def test_any_skew_is_taken_out(skew: int, age: int) -> None:
    body = track(timestamp=NOW + skew - age, sentAt=NOW + skew)
    assert taken("track", body).occurred_at == NOW - age


# Batches


def test_a_batch_has_calls_of_every_type() -> None:
    calls = [
        track(type="track"),
        {"type": "identify", "userId": "u", "traits": {"a": 1}},
        {"type": "page", "anonymousId": "a"},
    ]
    names = [getattr(event, "name", None) for _, event in checked("batch", {"batch": calls})]
    assert names == ["Item Purchased", "$identify", "page_view"]
    assert checked("import", {"batch": calls}) == checked("batch", {"batch": calls})


def test_every_call_of_a_batch_has_a_type_of_segments() -> None:
    assert refused("batch", {"batch": [track()]}) == ("missing", "type")
    assert refused("batch", {"batch": [track(type="buy")]}) == ("unknown_type", "type")


def test_the_path_outranks_the_type_of_a_single_call() -> None:
    assert taken("page", {"type": "track", "userId": "u"}).name == "page_view"


def test_the_context_of_a_batch_is_merged_with_that_of_each_call() -> None:
    batch = {
        "batch": [track(type="track", context={"ip": "1.2.3.4"}), track(type="track")],
        "context": {"device": {"type": "phone"}, "ip": "0.0.0.0"},
    }
    first, second = (event for _, event in checked("batch", batch))
    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert context(first) == {"device": {"type": "phone"}, "ip": "1.2.3.4"}
    assert context(second) == batch["context"]


def test_one_bad_call_refuses_no_other() -> None:
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
def test_a_batch_that_is_none_is_refused_whole(body: bytes, code: str) -> None:
    assert refused_whole("batch", body, **BASIC).problem.code == code


def test_a_body_that_is_not_utf8_is_refused_whole() -> None:
    for path in ("batch", "track"):
        problem = problem_of(DOORS[path].parse, request_meta(**BASIC), b'{"event": "\xff"}', LIMITS)
        assert problem.code == "invalid_utf8"


def test_an_empty_call_is_refused() -> None:
    assert refused_whole("track", b" ", **BASIC).problem.code == "empty_body"


def test_a_retry_has_the_same_bytes_though_it_is_sent_later() -> None:
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


def test_what_was_taken_is_answered_with_success() -> None:
    assert answered("track", track(), Outcome([FIRST], [])) == (200, {"success": True})


def test_what_was_refused_of_a_batch_is_listed_beside_success() -> None:
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


def test_when_nothing_is_taken_the_answer_is_400_with_an_error() -> None:
    bad = Refused(0, "", Refusal("missing", "event", "is missing"))
    status, body = answered("track", {"userId": "u"}, Outcome([], [bad]))
    assert status == 400
    assert body["success"] is False
    assert body["error"] == {"code": "missing", "message": "event is missing"}
    # where the official Python client looks for them
    assert (body["code"], body["message"]) == ("missing", "event is missing")


def test_a_refused_request_has_the_same_shape_and_says_when_to_come_again() -> None:
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


def test_every_documented_path_has_a_door_and_so_have_the_browser_clients_letters() -> None:
    documented = {"track", "identify", "page", "screen", "group", "alias", "batch", "import"}
    assert set(DOORS) == documented | set("tipsgab")
    for path in documented - {"import"}:
        assert DOORS[path[0]] is DOORS[path]
