"""An event with invalid JSON such as NaN is rejected alone, at every door."""

import json
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.doors import parse, problem_of, validated
from weir.gateway.doors.cloudevents import door as cloudevents
from weir.gateway.doors.door import Door
from weir.gateway.doors.events import door as events
from weir.gateway.doors.hackle import door as hackle
from weir.gateway.doors.segment import door as segment
from weir.gateway.doors.suprsend import door as suprsend
from weir.gateway.doors.tracardi import door as tracardi
from weir.gateway.doors.userflux import door as userflux
from weir.gateway.doors.webhook import door as webhook
from weir.gateway.http.error_codes import Problem, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.lenient_json import (
    NOT_NUMBERS,
    has_not_numbers,
    is_outside,
    masked,
    unmasked,
)
from weir.gateway.ingest.parsed_events import BodyLimits, ParsedEvents
from weir.gateway.ingest.validation import Event

NOW = 1_795_262_400_000
LIMITS = BodyLimits(events=9, body_bytes=9_999)
TRACARDI = {"source": {"id": "shop"}, "session": {"id": "visit"}}
PLAIN: dict[str, Any] = {"event": "a"}
TRACK: dict[str, Any] = {"eventTypeKey": "a", "identifiers": {"$id": "u"}}
CALL: dict[str, Any] = {"type": "track", "event": "a", "userId": "u"}
SUPRSEND: dict[str, Any] = {"event": "a", "distinct_id": "u"}
USERFLUX: dict[str, Any] = {"name": "a", "userId": "u"}
CLOUD: dict[str, Any] = {"specversion": "1.0", "type": "a", "source": "/s", "id": "1"}
DOORS: dict[str, tuple[Door, dict[str, Any], str, dict[str, Any]]] = {
    "array": (events.DOOR, PLAIN, "", {}),
    "envelope": (events.DOOR, PLAIN, "events", {"context": {"a": 0}}),
    "hackle": (hackle.DOOR, TRACK, "trackEvents", {}),
    "segment": (segment.BATCH, CALL, "batch", {"sentAt": "2026-11-21T12:00:00Z"}),
    "suprsend": (suprsend.BULK, SUPRSEND, "", {}),
    "tracardi": (tracardi.DOOR, {"type": "a"}, "events", TRACARDI),
    "userflux": (userflux.BATCH, USERFLUX, "events", {}),
    "cloudevents": (cloudevents.DOOR, CLOUD, "", {}),
}


def read(door: Door, body: bytes) -> ParsedEvents | Problem:
    media = cloudevents.BATCHED if door is cloudevents.DOOR else "application/json"
    headers = CIMultiDict({"Content-Type": media, "Authorization": "Basic azo="})
    request_meta = RequestMeta("POST", "/", "", {}, CIMultiDictProxy(headers), "", NOW)
    return parse(door, request_meta, body, LIMITS)


def body_of(name: str, sent: list[dict[str, Any]], **beside: Any) -> bytes:
    """As Python's SDKs write it."""
    _, _, member, others = DOORS[name]
    return json.dumps({**others, **beside, member: sent} if member else sent).encode()


@pytest.mark.parametrize("number", [nan, inf, -inf])
@pytest.mark.parametrize("name", DOORS)
def test_nan_or_infinity_rejects_only_its_own_event(name: str, number: float) -> None:
    door, event, *_ = DOORS[name]
    held = "data" if door is cloudevents.DOOR else "properties"
    text = 'NaN, \\"Infinity" \\'
    good, bad = event | {held: {"x": text}}, event | {held: {"x": number, "y": text}}
    found = read(door, body_of(name, [good, bad, good]))
    assert isinstance(found, ParsedEvents), found
    raws, checked = zip(*validated(found, NOW), strict=True)
    assert [json.dumps(one).encode() for one in (good, bad, good)] == list(map(bytes, raws))
    assert isinstance(checked[0], Event)
    assert checked[1] == Refusal("invalid_json", "", NOT_NUMBERS)
    assert isinstance(checked[2], Event)


@pytest.mark.parametrize(
    ("name", "member", "code"),
    [
        ("envelope", "context", "invalid_context"),
        ("segment", "context", "invalid_context"),
        ("segment", "sentAt", "invalid_json"),
        ("tracardi", "context", "invalid_json"),
    ],
)
def test_nan_outside_the_events_rejects_the_whole_request(
    name: str, member: str, code: str
) -> None:
    door, event, *_ = DOORS[name]
    value = nan if member == "sentAt" else {"a": nan}
    found = read(door, body_of(name, [event], **{member: value}))
    assert isinstance(found, Problem)
    assert found.code == code


@pytest.mark.parametrize(
    "body", [b'{"event":"a","value":NaN}', b'[{"event":"a","value":NaN}', b"N"]
)
def test_a_body_with_nan_that_cannot_be_split_is_rejected_as_a_whole(body: bytes) -> None:
    found = read(events.DOOR, body)
    assert isinstance(found, Problem)
    assert found.code == "invalid_json"


HALF = r"\ud83d"


@pytest.mark.parametrize("name", DOORS)
def test_half_a_surrogate_pair_rejects_its_event_and_names_field_and_byte(name: str) -> None:
    door, event, *_ = DOORS[name]
    held = "data" if door is cloudevents.DOOR else "properties"
    whole = "\N{GRINNING FACE}"
    bad = event | {held: {"a": [whole, {"b": r"\ud83d", "c": "x\ud83d"}]}}
    found = read(door, body_of(name, [event, bad]))
    assert isinstance(found, ParsedEvents), found
    [good, refusal] = [one for _, one in validated(found, NOW)]
    assert isinstance(good, Event)
    assert isinstance(refusal, Refusal)
    assert refusal.field.endswith(f"{held}.a[1].c")
    assert f"half a surrogate pair ({HALF} at byte " in refusal.text


@pytest.mark.parametrize("body", [b'{"a":"\\ud83d"}', b'{"a":"\\\\\\ud83d"'])
def test_a_single_event_body_with_half_a_surrogate_pair_is_rejected_by_name(body: bytes) -> None:
    problem = problem_of(webhook.DOOR.parse, webhook_request(), body, LIMITS)
    assert "half a surrogate pair" in problem.detail


def webhook_request() -> RequestMeta:
    parts = {"event_type": "a", "source_id": "s"}
    return RequestMeta("POST", "/", "", parts, CIMultiDictProxy(CIMultiDict({})), "", NOW)


@pytest.mark.parametrize("text", [b'"NaN"', b'["\\"NaN", "-Infinity\\\\"]', b'"NaN', b'"\\"NaN\\'])
def test_nan_and_infinity_inside_strings_are_not_masked(text: bytes) -> None:
    assert masked(text) == text
    assert not has_not_numbers(text)


def test_events_that_look_equal_when_masked_are_unmasked_correctly() -> None:
    sent = [b'{"a":NaN}', b'{"a":0.0}', b'{"a":"\\ud83d"}', b'{"a":-Infinity}']
    body = b"[" + b", ".join(sent) + b"]"
    masked_body = masked(body)
    assert len(masked_body) == len(body)
    assert unmasked(map(masked, sent), masked_body, body) == sent
    assert not is_outside(sent, body)
    assert is_outside(sent, body + b"NaN")


NUMBERS = st.floats() | st.sampled_from([nan, inf, -inf])
VALUES = st.recursive(
    NUMBERS | st.text() | st.sampled_from(["NaN", '"', "\\", "\ud83d"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_any_events_serialised_by_python_are_split_correctly(values: list[Any]) -> None:
    found = read(events.DOOR, body := json.dumps([{"event": "a", "x": v} for v in values]).encode())
    assert isinstance(found, ParsedEvents), (found, body)
    assert [one.raw for one in found.events] == [
        json.dumps({"event": "a", "x": v}).encode() for v in values
    ]
