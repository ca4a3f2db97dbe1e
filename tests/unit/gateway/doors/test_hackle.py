"""Hackle's door follows the documented rules and accepts what Hackle's SDKs send."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.doors import parse, problem_of, validated
from weir.core.registry import Source
from weir.gateway.doors.hackle import door as hackle
from weir.gateway.doors.hackle.workspace import ETAG, LAST_MODIFIED, is_current
from weir.gateway.http.error_codes import Problem, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import RecordContext, RequestRecords, build_records
from weir.gateway.ingest.parsed_events import BodyLimits, Outcome, ParsedEvents
from weir.gateway.ingest.validation import Event

NOW = 1_795_263_972_188
PURCHASE = {"eventTypeKey": "purchase", "identifiers": {"$id": "ae2182e0"}}
EXPOSURE = {
    "identifiers": {"$id": "ae2182e0"},
    "experimentId": 1001,
    "experimentKey": 42,
    "experimentType": "AB_TEST",
    "experimentVersion": 2,
    "variationId": 12,
    "variationKey": "B",
    "decisionReason": "TRAFFIC_ALLOCATED",
    "properties": {"$experiment_version": 2},
}


def request_meta(**headers: str) -> RequestMeta:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return RequestMeta("POST", "/api/v2/events", "", {}, CIMultiDictProxy(named), "", NOW)


def parsed(body: bytes, max_events: int = 500, **headers: str) -> ParsedEvents:
    return hackle.DOOR.parse(request_meta(**headers), body, BodyLimits(max_events, 2**21))


def problem(body: bytes, max_events: int = 500) -> Problem:
    return problem_of(parsed, body, max_events)


def checked(**lists: Any) -> list[Event | Refusal]:
    events = parsed(json.dumps(lists).encode())
    return [event for _, event in validated(events, NOW)]


def track(**fields: Any) -> Event | Refusal:
    """What becomes of one tracked event."""
    (event,) = checked(trackEvents=[PURCHASE | fields])
    return event


def taken(**fields: Any) -> Event:
    event = track(**fields)
    assert isinstance(event, Event), event
    return event


def refused(**fields: Any) -> tuple[str, str]:
    event = track(**fields)
    assert isinstance(event, Refusal), event
    return event.code, event.field


def test_example_1_sends_only_the_event_key() -> None:
    event = taken(value=None, properties={})
    assert (event.name, event.user_id, event.value) == ("purchase", "ae2182e0", None)
    assert event.properties == b"{}"


def test_example_2_sends_the_event_key_and_a_numeric_value_together() -> None:
    assert taken(value=13200).value == 13200.0


@pytest.mark.parametrize("value", [13200, -1, 0, 0.5, 2**60, 1e300])
def test_value_may_be_any_number(value: float) -> None:
    assert taken(value=value).value == value


@pytest.mark.parametrize("value", ["13200", "", True, False, [1], {"amount": 1}])
def test_a_value_that_is_not_a_number_is_rejected(value: object) -> None:
    assert refused(value=value) == ("wrong_type", "value")


def test_an_event_without_an_event_type_key_is_rejected() -> None:
    assert refused(eventTypeKey=None) == ("wrong_type", "eventTypeKey")
    assert refused(eventTypeKey="") == ("invalid_name", "eventTypeKey")
    (event,) = checked(trackEvents=[{"identifiers": {"$id": "a"}}])
    assert isinstance(event, Refusal)
    assert (event.code, event.field) == ("missing", "eventTypeKey")


def test_event_type_key_may_contain_spaces_but_not_be_blank() -> None:
    """The event key may contain spaces: the SDK accepts any key but an empty one."""
    assert taken(eventTypeKey="add to cart").name == "add to cart"
    assert refused(eventTypeKey=" ") == ("invalid_name", "eventTypeKey")


@pytest.mark.parametrize(
    "identifiers",
    [
        None,
        {},
        {"$id": ""},
        {"$id": " ", "$userId": "", "$deviceId": "", "$hackleDeviceId": "", "$sessionId": ""},
        {"customerId": "77"},  # of the sender's own making: says nobody whom Weir could know
    ],
)
def test_an_event_without_a_user_identifier_is_rejected(identifiers: object) -> None:
    assert refused(identifiers=identifiers) == ("missing", "identifiers")


def test_a_property_key_that_is_not_a_string_makes_the_body_invalid_json() -> None:
    body = b'{"trackEvents":[{"eventTypeKey":"purchase","properties":{1:"x"}}]}'
    assert problem(body).code == "invalid_json"


@pytest.mark.parametrize("value", ["CARD", "", "a[b]{c}", 800, -0.5, True, False])
def test_a_property_value_may_be_a_boolean_string_or_number(value: object) -> None:
    properties = {"first": "}{", "pay_method": value}
    assert json.loads(taken(properties=properties).properties) == properties


@pytest.mark.parametrize("value", [[], ["a"], [1, 2], {}, {"a": 1}])
def test_an_array_or_object_as_a_property_value_is_rejected(value: object) -> None:
    assert refused(properties={"is_discount": True, "pay_method": value}) == (
        "wrong_type",
        "properties.pay_method",
    )


def test_a_null_property_or_null_properties_is_accepted() -> None:
    """A null property rejects nothing; the SDK itself omits properties that are None."""
    assert taken(properties={"pay_method": None, "x": 1}).properties
    assert taken(properties=None).properties == b"{}"


@pytest.mark.parametrize("properties", ["x", 5, [], [{}], True])
def test_properties_that_are_not_an_object_are_rejected(properties: object) -> None:
    assert refused(properties=properties) == ("wrong_type", "properties")


def test_an_invalid_event_does_not_reject_its_neighbours() -> None:
    found = checked(
        trackEvents=[PURCHASE, PURCHASE | {"value": "1"}, 5],
        exposureEvents=[{"experimentKey": 1}, EXPOSURE],
    )
    assert [isinstance(one, Event) for one in found] == [True, False, False, False, True]


def test_property_names_with_reserved_prefixes_are_accepted() -> None:
    assert taken(properties={"ss_x": 1, "$y": 2}).properties == b'{"ss_x": 1, "$y": 2}'


def test_the_sdks_properties_event_is_accepted_and_other_reserved_names_are_not() -> None:
    properties = {"$set": {"age": 30}, "$increment": {"n": 1}}
    event = taken(eventTypeKey="$properties", properties=properties)
    assert (event.name, json.loads(event.properties)) == ("$properties", properties)
    assert refused(eventTypeKey="$something_else") == ("reserved_name", "eventTypeKey")


@pytest.mark.parametrize(
    ("identifiers", "user", "anonymous", "session"),
    [
        ({"$id": "a"}, "a", "", ""),
        ({"$userId": "u"}, "u", "", ""),
        ({"$id": "a", "$userId": "u"}, "u", "", ""),
        ({"$id": "a", "$deviceId": "d"}, "a", "d", ""),
        # as the SDKs on phones write it before anybody has logged in
        ({"$id": "d", "$deviceId": "d", "$hackleDeviceId": "d"}, "", "d", ""),
        ({"$id": "d", "$deviceId": "own", "$hackleDeviceId": "d"}, "", "own", ""),
        ({"$id": "d", "$userId": "u", "$hackleDeviceId": "d"}, "u", "d", ""),
        ({"$id": 77, "$deviceId": 5, "$sessionId": 6}, "77", "5", "6"),
        ({"$sessionId": "s", "$userId": "u"}, "u", "", "s"),
        ({"customerId": "77", "$sessionId": "s"}, "", "", "s"),
        # what is blank is as good as absent
        ({"$userId": "", "$id": "x"}, "x", "", ""),
        ({"$userId": " ", "$deviceId": "", "$hackleDeviceId": "d"}, "", "d", ""),
        ({"$userId": "", "$id": "d", "$deviceId": "", "$hackleDeviceId": "d"}, "", "d", ""),
        ({"$id": 5, "$deviceId": "5"}, "", "5", ""),
    ],
)
def test_identifiers_map_to_user_anonymous_and_session_id(
    identifiers: dict[str, object], user: str, anonymous: str, session: str
) -> None:
    event = taken(identifiers=identifiers)
    assert (event.user_id, event.anonymous_id, event.session_id) == (user, anonymous, session)
    assert json.loads(event.context)["identifiers"] == identifiers


def test_user_id_is_read_from_the_older_field_when_identifiers_are_missing() -> None:
    assert taken(identifiers=None, userId="ae2182e0").user_id == "ae2182e0"
    assert taken(identifiers={"$id": ""}, userId="ae2182e0").user_id == "ae2182e0"
    assert refused(identifiers=None, userId=" ") == ("missing", "identifiers")


def test_a_timestamp_too_far_in_the_future_is_dropped_and_the_event_accepted() -> None:
    """An event from a clock that is ahead is accepted: the SDKs never send a rejected event again."""
    assert taken(timestamp=NOW + 3_600_000).occurred_at == NOW + 3_600_000
    assert taken(timestamp=NOW + 3_600_001).occurred_at is None  # as when it has none
    (exposed,) = checked(exposureEvents=[EXPOSURE | {"timestamp": 2 * NOW}])
    assert isinstance(exposed, Event)
    assert exposed.occurred_at is None


def test_remaining_event_fields_and_sdk_headers_are_kept_in_the_context() -> None:
    sent = {
        "insertId": "i-1",
        "timestamp": NOW - 5,
        "userProperties": {"grade": "GOLD"},
        "hackleProperties": {"os": "x"},
        "eventTypeId": 9,
    }
    body = json.dumps({"trackEvents": [PURCHASE | sent]}).encode()
    events = parsed(body, X_HACKLE_SDK_NAME="python-sdk", X_HACKLE_SDK_VERSION="3.9.0")
    ((raw, event),) = validated(events, NOW)
    assert isinstance(event, Event)
    assert raw in body
    assert (event.idempotency_key, event.occurred_at) == ("i-1", NOW - 5)
    assert json.loads(event.context) == {
        "library": {"name": "python-sdk", "version": "3.9.0"},
        "eventTypeId": 9,
        "identifiers": PURCHASE["identifiers"],
        "userProperties": {"grade": "GOLD"},
        "hackleProperties": {"os": "x"},
    }


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("insertId", 5, "wrong_type"),
        ("timestamp", "now", "wrong_type"),
        ("eventTypeId", "x", "wrong_type"),
        ("identifiers", "x", "wrong_type"),
        ("userProperties", [], "wrong_type"),
        ("hackleProperties", 1, "wrong_type"),
    ],
)
def test_a_field_of_the_wrong_type_is_rejected_by_name(
    field: str, value: object, code: str
) -> None:
    assert refused(**{field: value}) == (code, field)


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"eventTypeKey": "a\tb"}, "invalid_name", "eventTypeKey"),
        ({"insertId": " "}, "empty", "insertId"),
        ({"insertId": "i" * 256}, "too_long", "insertId"),
        ({"timestamp": -(10**13)}, "too_early", "timestamp"),
        ({"identifiers": {"$id": "a" * 256}}, "too_long", "identifiers"),
        ({"identifiers": {"$deviceId": "a\0b"}}, "control_character", "identifiers"),
        ({"identifiers": {"$sessionId": "a" * 256}}, "too_long", "identifiers.$sessionId"),
    ],
)
def test_a_refusal_names_the_sdks_field(fields: dict[str, object], code: str, field: str) -> None:
    assert refused(**fields) == (code, field)


def test_an_identifier_of_the_wrong_type_is_rejected_by_name() -> None:
    assert refused(identifiers={"$userId": {}}) == ("wrong_type", "identifiers.$userId")


def test_an_exposure_becomes_an_exposure_event() -> None:
    (event,) = checked(exposureEvents=[EXPOSURE])
    assert isinstance(event, Event)
    assert (event.name, event.user_id) == ("$exposure", "ae2182e0")
    assert json.loads(event.properties) == {
        "experiment_key": "42",
        "experiment_type": "AB_TEST",
        "experiment_id": 1001,
        "experiment_version": 2,
        "variation_key": "B",
        "variation_id": 12,
        "decision_reason": "TRAFFIC_ALLOCATED",
        "properties": {"$experiment_version": 2},
    }


@pytest.mark.parametrize("field", ["experimentKey", "variationKey"])
def test_an_exposure_without_experiment_or_variation_key_is_rejected(field: str) -> None:
    sent = {name: value for name, value in EXPOSURE.items() if name != field}
    (event,) = checked(exposureEvents=[sent])
    assert isinstance(event, Refusal)
    assert (event.code, event.field) == ("missing", field)


def test_a_remote_configuration_becomes_a_remote_config_event() -> None:
    sent = {
        "identifiers": {"$id": "a"},
        "parameterId": 1,
        "parameterKey": "color",
        "parameterType": "STRING",
        "valueId": None,
        "decisionReason": "DEFAULT_RULE",
        "properties": {"returnValue": "blue"},
    }
    (event,) = checked(remoteConfigEvents=[sent])
    assert isinstance(event, Event)
    assert event.name == "$remote_config"
    assert json.loads(event.properties) == {
        "parameter_key": "color",
        "parameter_type": "STRING",
        "parameter_id": 1,
        "decision_reason": "DEFAULT_RULE",
        "properties": {"returnValue": "blue"},
    }


def records_of(events: ParsedEvents) -> RequestRecords:
    source, client = Source(id="s"), Client("hackle", "", "")
    context = RecordContext(SourceFields.of(source), NOW, client, client_id=hackle.DOOR.client_id)
    return build_records(events, source, context)


def test_the_reply_is_an_empty_object_when_every_event_is_accepted() -> None:
    events = parsed(json.dumps({"trackEvents": [PURCHASE]}).encode())
    answer = hackle.DOOR.reply(request_meta(), events, records_of(events).outcome())
    assert (answer.status, answer.body) == (202, b"{}")


def test_the_reply_lists_rejected_events_by_list_and_index() -> None:
    bad = {"insertId": "i-2", "experimentKey": 1}
    body = json.dumps({"trackEvents": [PURCHASE], "exposureEvents": [EXPOSURE, bad]}).encode()
    events = parsed(body)
    answer = hackle.DOOR.reply(request_meta(), events, records_of(events).outcome())
    assert answer.status == 202
    assert json.loads(answer.body) == {
        "rejected": [
            {
                "list": "exposureEvents",
                "index": 1,
                "id": "i-2",
                "code": "missing",
                "field": "variationKey",
                "message": "variationKey is missing",
            }
        ]
    }


def test_the_reply_includes_warnings() -> None:
    events = parsed(json.dumps({"trackEvents": [PURCHASE]}).encode())
    answer = hackle.DOOR.reply(request_meta(), events, Outcome(["x"], [], ["odd"]))
    assert json.loads(answer.body) == {"warnings": ["odd"]}


def test_a_request_with_only_rejected_events_returns_422() -> None:
    """A request with no valid event returns 422; the SDK logs it and does not send again."""
    events = parsed(json.dumps({"trackEvents": [PURCHASE | {"value": "1"}]}).encode())
    answer = hackle.DOOR.reply(request_meta(), events, records_of(events).outcome())
    assert answer.status == 422
    assert json.loads(answer.body)["code"] == "no_valid_event"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b" ", "empty_body"),
        (b"{}", "no_events"),
        (b'{"trackEvents":null}', "no_events"),
        (b"[]", "invalid_body"),
        (b'{"trackEvents":5}', "invalid_body"),
        (b'{"trackEvents":[}', "invalid_json"),
        (b'{"trackEvents":["\xff"]}', "invalid_utf8"),
        (b'{"trackEvents":' + b"[" * 100_000, "too_deep"),
    ],
)
def test_a_body_that_cannot_be_split_into_events_is_rejected(body: bytes, code: str) -> None:
    assert problem(body).code == code


def test_the_cap_counts_the_events_of_all_lists() -> None:
    body = json.dumps({"trackEvents": [PURCHASE], "exposureEvents": [EXPOSURE] * 2}).encode()
    assert len(parsed(body, 3)) == 3
    assert problem(body, 2).code == "too_many_events"


def test_half_a_surrogate_pair_rejects_only_its_own_event() -> None:
    half = b'{"eventTypeKey":"half","insertId":"h","properties":{"x":"\\ud83d"}}'
    whole = json.dumps(PURCHASE | {"properties": {"x": "\U0001f600"}}).encode()
    body = b'{"exposureEvents":[],"trackEvents":[%b, %b,%b]}' % (half, whole, half)
    found = validated(parsed(body), NOW)
    assert [raw for raw, _ in found] == [half, whole, half]
    assert [isinstance(event, Event) for _, event in found] == [False, True, False]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
    st.sampled_from(["value", "properties", "identifiers", "timestamp", "eventTypeId", "x"]),
)
def test_any_field_value_yields_an_event_a_refusal_or_invalid_json(
    value: object, field: str
) -> None:
    body = json.dumps({"trackEvents": [PURCHASE | {field: value}]}).encode()
    found = parse(hackle.DOOR, request_meta(), body, BodyLimits(9, 2**21))
    if isinstance(found, ParsedEvents):  # NaN is no JSON
        assert len(validated(found, NOW)) == 1
    else:
        assert found.code == "invalid_json"


def test_the_write_key_is_read_from_the_sdk_key_or_authorization_header() -> None:
    assert hackle.DOOR.credentials(request_meta(X_HACKLE_SDK_KEY=" k ")).key == "k"
    assert hackle.DOOR.credentials(request_meta(Authorization="Bearer k")).key == "k"
    assert hackle.DOOR.credentials(request_meta()).key == ""


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({"If_None_Match": ETAG}, True),
        ({"If_None_Match": f'"x", W/{ETAG}'}, True),
        ({"If_None_Match": "*"}, True),
        ({"If_None_Match": '"x"', "If_Modified_Since": LAST_MODIFIED}, False),
        ({"If_Modified_Since": LAST_MODIFIED}, True),
        ({"If_Modified_Since": "Fri, 31 Dec 1999 23:59:59 GMT"}, False),
        ({"If_Modified_Since": "yesterday"}, False),
        ({"If_Modified_Since": "Sat, 01 Jan 99999 00:00:00 GMT"}, False),
    ],
)
def test_the_workspace_honours_conditional_request_headers(
    headers: dict[str, str], expected: bool
) -> None:
    assert is_current(request_meta(**headers).headers) is expected
