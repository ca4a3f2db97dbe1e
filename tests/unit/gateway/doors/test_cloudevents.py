"""The CloudEvents door follows the specification, its JSON format and its HTTP binding."""

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.doors import parse, validated
from weir.gateway.doors.cloudevents.door import BATCHED, DOOR, STRUCTURED
from weir.gateway.doors.cloudevents.parser import attribute_of, key_of
from weir.gateway.http.error_codes import Problem, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.parsed_events import BodyLimits, Outcome, ParsedEvents, Refused
from weir.gateway.ingest.validation import Event

LIMITS = BodyLimits(events=3, body_bytes=4_000)
NOW = 1_795_262_400_000
ATTRIBUTES: dict[str, Any] = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "source": "/mycontext",
    "id": "A234-1234-1234",
}
HEADERS = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}


def request_meta(**headers: str) -> RequestMeta:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return RequestMeta(
        "POST", "/v1/cloudevents", "", {}, CIMultiDictProxy(CIMultiDict(named)), "", NOW
    )


def read(body: bytes, content_type: str, **headers: str) -> ParsedEvents | Problem:
    typed = {"Content_Type": content_type} if content_type else {}
    return parse(DOOR, request_meta(**typed, **headers), body, LIMITS)


def checked(found: ParsedEvents | Problem) -> list[Event | Refusal]:
    assert isinstance(found, ParsedEvents), found
    return [event for _, event in validated(found, NOW)]


def one(found: ParsedEvents | Problem) -> Event | Refusal:
    (event,) = checked(found)
    return event


def structured(**members: Any) -> Event | Refusal:
    return one(read(json.dumps(ATTRIBUTES | members).encode(), STRUCTURED))


def binary(body: bytes, content_type: str = "", **headers: str) -> Event | Refusal:
    return one(read(body, content_type, **{**HEADERS, **headers}))


def taken(event: Event | Refusal) -> Event:
    assert isinstance(event, Event), event
    return event


def refused(event: Event | Refusal) -> tuple[str, str]:
    assert isinstance(event, Refusal), event
    return event.code, event.field


def properties(event: Event | Refusal) -> Any:
    return json.loads(taken(event).properties)


def context(event: Event | Refusal) -> Any:
    return json.loads(taken(event).context)


# Attributes


def test_type_becomes_the_event_name_and_source_plus_id_the_idempotency_key() -> None:
    for event in (structured(), binary(b"")):
        assert taken(event).name == "com.example.someevent"
        assert taken(event).idempotency_key == "/mycontext A234-1234-1234"
        assert taken(event).occurred_at is None
        assert context(event) == {"source": "/mycontext", "id": "A234-1234-1234"}
        assert properties(event) == {}


def test_time_becomes_occurred_at() -> None:
    for time, epoch_ms in (
        ("2018-04-05T17:31:00Z", 1522949460000),
        ("2018-04-05T17:31:00.123456789+02:00", 1522942260123),
    ):
        assert taken(structured(time=time)).occurred_at == epoch_ms
        assert taken(binary(b"", ce_time=time)).occurred_at == epoch_ms


@pytest.mark.parametrize("time", ["yesterday", "2018-04-05", "2018-04-05T17:31:00", ""])
def test_a_time_that_is_not_rfc_3339_is_rejected(time: str) -> None:
    assert refused(structured(time=time)) == ("invalid_time", "time")
    assert refused(binary(b"", ce_time=time)) == ("invalid_time", "time")


def test_subject_and_extensions_are_kept_in_the_context() -> None:
    attributes = {"subject": "123", "comexampleextension1": "value", "comexampleothervalue": 5}
    event = structured(**attributes, dataschema="urn:x", traceparent="00-a-b-00")
    named = {"source": "/mycontext", "id": "A234-1234-1234"}
    more = {"dataschema": "urn:x", "traceparent": "00-a-b-00"}
    assert context(event) == named | attributes | more
    event = binary(b"", ce_subject="123", ce_comexampleothervalue="5")
    assert context(event) == named | {"subject": "123", "comexampleothervalue": "5"}


def test_identifier_extensions_set_user_anonymous_profile_and_session_ids() -> None:
    attributes = {"userid": 12, "anonymousid": "a", "profileid": "p", "sessionid": "s"}
    for event in (
        structured(**attributes),
        binary(b"", ce_userid="12", ce_anonymousid="a", ce_profileid="p", ce_sessionid="s"),
    ):
        who = taken(event)
        assert (who.user_id, who.anonymous_id) == ("12", "a")
        assert (who.profile_id, who.session_id) == ("p", "s")
        assert "userid" not in context(event)


@pytest.mark.parametrize("value", [True, 1.5, {}, []])
def test_an_identifier_that_is_no_string_or_integer_is_rejected(value: Any) -> None:
    assert refused(structured(userid=value)) == ("wrong_type", "userid")


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_a_missing_or_empty_required_attribute_is_rejected(name: str) -> None:
    for empty in ("", None):
        assert refused(structured(**{name: empty})) == ("missing", name)
    assert refused(structured(**{name: 12})) == ("wrong_type", name)
    assert refused(binary(b"", **{f"ce-{name}": ""})) == ("missing", f"ce-{name}")
    rest = {header: value for header, value in HEADERS.items() if header != f"ce-{name}"}
    assert refused(one(read(b"{}", "application/json", **rest))) == ("missing", f"ce-{name}")


@pytest.mark.parametrize("version", ["0.3", "1", "1.0.2", "2.0"])
def test_a_specversion_other_than_1_0_is_rejected(version: str) -> None:
    assert refused(structured(specversion=version)) == ("unknown_version", "specversion")
    event = binary(b"", **{"ce-specversion": version})
    assert refused(event) == ("unknown_version", "ce-specversion")


@pytest.mark.parametrize("name", ["subject", "time", "dataschema", "datacontenttype"])
def test_optional_attributes_must_be_strings_and_null_counts_as_absent(name: str) -> None:
    assert refused(structured(**{name: 5})) == ("wrong_type", name)
    assert context(structured(**{name: None})) == context(structured())


def test_type_may_contain_spaces() -> None:
    assert taken(structured(type="Order Completed")).name == "Order Completed"


@pytest.mark.parametrize(
    ("source", "event_id", "key"),
    [
        ("/a", "b", "/a b"),
        ("urn:event:from:myapi/resource/123", "x y", "urn:event:from:myapi/resource/123 x y"),
    ],
)
def test_idempotency_key_is_source_and_id_in_plain_text_when_unambiguous(
    source: str, event_id: str, key: str
) -> None:
    assert key_of(source, event_id) == key


@pytest.mark.parametrize(
    ("source", "event_id"),
    [("/a b", "c"), ("/a", " b"), ("/a", "b\0"), ("/a", "b" * 254), ("/ä", "b")],
)
def test_idempotency_key_is_a_sha256_digest_when_plain_text_is_ambiguous(
    source: str, event_id: str
) -> None:
    assert key_of(source, event_id).startswith("sha256:")
    assert taken(structured(source=source, id=event_id)).idempotency_key == key_of(source, event_id)


_text = st.text("ab /\0é", min_size=1, max_size=4)


@given(_text, _text, _text, _text)
@example("a\0b", "c", "a", "b\0c")
@example("a b", "c", "a", "b c")
def test_idempotency_keys_are_equal_only_if_source_and_id_are_equal(
    source: str, event_id: str, other_source: str, other_id: str
) -> None:
    is_same = key_of(source, event_id) == key_of(other_source, other_id)
    assert is_same == ((source, event_id) == (other_source, other_id))


# Data


def test_a_json_object_in_data_becomes_the_properties() -> None:
    data = {"appinfoA": "abc", "appinfoB": 123, "appinfoC": True, "$own": 1}
    assert properties(structured(data=data)) == data
    assert properties(structured(data=data, datacontenttype="application/json")) == data
    assert properties(structured(data=data, datacontenttype="application/vnd.x+json")) == data
    body = json.dumps(data).encode()
    assert properties(binary(body, "application/json; charset=utf-8")) == data
    encoded = base64.b64encode(body).decode()
    event = structured(data_base64=encoded, datacontenttype="text/json")
    assert properties(event) == data


@pytest.mark.parametrize("data", [1.5, "I'm just a string", [1, 2], False])
def test_non_object_json_data_is_stored_under_the_property_data(data: Any) -> None:
    assert properties(structured(data=data)) == {"data": data}
    members = {"data": data, "datacontenttype": "application/json"}
    assert properties(structured(**members)) == members
    assert properties(binary(json.dumps(data).encode(), "application/json")) == members


def test_null_data_yields_empty_properties() -> None:
    assert properties(structured(data=None)) == {}
    assert properties(binary(b"null", "application/json")) == {}


def test_a_json_string_in_data_is_not_parsed_again_as_json() -> None:
    assert properties(structured(data='{"a": 1}')) == {"data": '{"a": 1}'}


def test_text_data_is_stored_as_a_string_with_its_content_type() -> None:
    members = {"datacontenttype": "application/xml", "data": '<much wow="xml"/>'}
    assert properties(structured(**members)) == members
    assert properties(binary(b'<much wow="xml"/>', "application/xml")) == members
    event = binary("é".encode(), "text/plain; charset=UTF-8")
    assert properties(event) == {"data": "é", "datacontenttype": "text/plain; charset=UTF-8"}


def test_data_with_a_text_content_type_must_be_a_string() -> None:
    event = structured(datacontenttype="text/xml", data={"a": 1})
    assert refused(event) == ("wrong_type", "data")


@pytest.mark.parametrize(
    "content_type", ["application/vnd.apache.thrift.binary", "text/plain; charset=latin1",
                     "application/json; charset=utf-16", "image/png"],
)  # fmt: skip
def test_binary_data_is_stored_as_base64(content_type: str) -> None:
    members = {"data_base64": "/wA=", "datacontenttype": content_type}
    assert properties(binary(b"\xff\0", content_type)) == members
    assert properties(structured(**members)) == members


def test_text_data_that_is_not_utf8_is_stored_as_base64() -> None:
    members = {"data_base64": "/wA=", "datacontenttype": "text/plain"}
    assert properties(binary(b"\xff\0", "text/plain")) == members


def test_bytes_without_a_content_type_are_stored_as_base64_without_a_type() -> None:
    members = {"data_base64": "eyAieHl6IjogMTIzIH0="}
    assert properties(structured(**members)) == members
    assert properties(binary(b'{ "xyz": 123 }')) == members


def test_data_together_with_data_base64_is_rejected() -> None:
    assert refused(structured(data=1, data_base64="YQ==")) == ("invalid_body", "data_base64")


@pytest.mark.parametrize("encoded", ["... base64 encoded string ...", "YQ", 12, {}])
def test_invalid_data_base64_is_rejected(encoded: Any) -> None:
    assert refused(structured(data_base64=encoded)) == ("wrong_type", "data_base64")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b'"\\ud83d"', "invalid_json"),
        (b"\xff", "invalid_utf8"),
        (b"[" * 40 + b"]" * 40, "too_deep"),
        (b"[" * 5_000, "too_deep"),
        (b'{"a": 1e999}', "out_of_range"),
        (b"I'm just a string", "invalid_json"),
    ],
)
def test_invalid_json_data_with_a_json_content_type_is_rejected(body: bytes, code: str) -> None:
    assert refused(binary(body, "application/json"))[0] == code
    encoded = base64.b64encode(body).decode()
    event = structured(data_base64=encoded, datacontenttype="application/json")
    assert refused(event) == (code, "data")


# Content modes


def test_percent_encoded_header_values_are_decoded() -> None:
    event = binary(b"", ce_subject="Euro%20%E2%82%AC%20%F0%9F%98%80")
    assert context(event)["subject"] == "Euro € 😀"


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("Euro%20%e2%82%ac", "Euro €"),  # lower case
        ("%41b", "Ab"),  # unnecessarily encoded
        ("%2541", "%41"),  # undone once only
        ('"a b"', "a b"),
        (r'"a \"b\" \\ %20"', 'a "b" \\  '),
        ('x"y z"', "xy z"),
        ("100%", "100%"),
        ("é", "é"),
        ("%C0%A0", None),  # an overlong form of U+0020
        ("%ff", None),
        ("\udcff", None),  # as a byte that is no UTF-8 comes
    ],
)
def test_header_values_are_decoded_according_to_the_http_binding(
    header: str, text: str | None
) -> None:
    assert attribute_of(header) == text


def test_a_header_that_is_not_utf8_is_refused() -> None:
    assert refused(binary(b"", ce_subject="%C0%A0")) == ("invalid_utf8", "ce-subject")


def test_header_names_are_case_insensitive() -> None:
    headers = {name.upper(): value for name, value in HEADERS.items()}
    assert taken(one(read(b"{}", "application/json", **headers))).name == ATTRIBUTES["type"]


def test_a_ce_datacontenttype_header_is_rejected_in_binary_mode() -> None:
    event = binary(b"{}", "application/json", ce_datacontenttype="text/xml")
    assert refused(event) == ("unknown_field", "ce-datacontenttype")


@pytest.mark.parametrize(
    "content_type",
    ["application/cloudevents+avro", "application/cloudevents", "application/cloudevents-batch",
     "application/cloudevents+json; charset=utf-16"],
)  # fmt: skip
def test_event_formats_other_than_json_are_rejected_as_unsupported_media_type(
    content_type: str,
) -> None:
    trouble = read(b"{}", content_type, **HEADERS)
    assert isinstance(trouble, Problem)
    assert trouble.code == "unsupported_media_type"


def test_structured_mode_matches_the_media_type_in_any_case_and_ignores_ce_headers() -> None:
    body = json.dumps(ATTRIBUTES).encode()
    headers = {**HEADERS, "ce-type": "other"}
    event = one(read(body, "Application/CloudEvents+JSON; charset=UTF-8", **headers))
    assert taken(event).name == ATTRIBUTES["type"]


def test_each_event_of_a_batch_is_validated_independently() -> None:
    batch = [ATTRIBUTES | {"id": "1"}, ATTRIBUTES | {"id": ""}, 12]
    first, second, third = checked(read(json.dumps(batch).encode(), BATCHED))
    assert taken(first).idempotency_key == "/mycontext 1"
    assert refused(second) == ("missing", "id")
    assert refused(third) == ("not_an_object", "")


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"", STRUCTURED, "empty_body"),
        (b"{", STRUCTURED, "invalid_json"),
        (b"", BATCHED, "empty_body"),
        (b"{}", BATCHED, "invalid_body"),
        (b"[]", BATCHED, "no_events"),
        (b"[1,2,3,4]", BATCHED, "too_many_events"),
        (b"[{]", BATCHED, "invalid_json"),
    ],
)
def test_an_empty_or_malformed_body_is_rejected_as_a_whole(
    body: bytes, content_type: str, code: str
) -> None:
    trouble = read(body, content_type)
    assert isinstance(trouble, Problem)
    assert trouble.code == code


def test_payload_digest_includes_the_attributes_in_binary_mode() -> None:
    def payload(**headers: str) -> bytes:
        found = read(b"{}", "application/json", **HEADERS, **headers)
        assert isinstance(found, ParsedEvents)
        assert found.payload_of is not None
        return found.payload_of(taken(one(found)))

    assert payload() == payload()
    assert len({payload(), payload(ce_subject="a"), payload(ce_userid="a")}) == 3


def test_a_refusal_names_the_cloudevents_attribute() -> None:
    assert refused(structured(time="2999-01-01T00:00:00Z")) == ("in_future", "time")
    assert refused(structured(type="tab\there")) == ("invalid_name", "type")
    assert refused(structured(userid="x" * 256)) == ("too_long", "userid")


def test_replies_have_the_format_of_the_events_door() -> None:
    refusal = Refusal("in_future", "time", "is too far ahead")
    answer = DOOR.reply(request_meta(), ParsedEvents(), Outcome([], [Refused(0, "/a b", refusal)]))
    assert answer.status == 422
    (rejected,) = json.loads(answer.body)["rejected"]
    assert (rejected["field"], rejected["message"]) == ("time", "time is too far ahead")
    assert DOOR.reply(request_meta(), ParsedEvents(), Outcome(["x"], [])).status == 202
