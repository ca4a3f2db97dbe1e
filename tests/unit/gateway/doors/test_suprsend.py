"""SuprSend's doors follow its documentation and accept and answer what its SDK sends and reads."""

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.doors import parse, problem_of, validated
from weir.core.registry import Source
from weir.gateway.doors.suprsend.door import BULK, DOOR, SuprSendDoor
from weir.gateway.doors.suprsend.parser import OWN_NAMES
from weir.gateway.http.error_codes import PROBLEMS, Problem, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import RecordContext, RequestRecords, build_records
from weir.gateway.ingest.parsed_events import BodyLimits, Credentials, Outcome, ParsedEvents
from weir.gateway.ingest.validation import Event

KEY = "workspace-key-0123456789"
LIMITS = BodyLimits(events=2_000, body_bytes=2_000_000)
NOW = 1_764_590_400_000
SOURCE = Source(id="shop")
# As suprsend-py-sdk 0.20.0 writes it.
SENT: dict[str, Any] = {
    "$insert_id": "5ff8e39a-4b0e-4a3c-9ef0-4f2e2ae4cd05",
    "$time": NOW,
    "event": "product_purchased",
    "env": KEY,
    "distinct_id": "0fxxx8f74-xxxx-41c5-8752-xxxcb6911fb08",
    "properties": {"first_name": "Ada", "$ss_sdk_version": "suprsend-py-sdk/0.20.0"},
}
UUID = "6b5ee0ab-9b1c-4c25-8b36-5a3ce2a6a0b4"


def request_meta(**headers: str) -> RequestMeta:
    given_ = {"Authorization": f"{KEY}:c2lnbmF0dXJl", **headers}
    proxy = CIMultiDictProxy(CIMultiDict(given_))
    return RequestMeta("POST", "/v2/event", "", {}, proxy, "", NOW, "/v2/event/")


def body(*events: Any) -> bytes:
    return json.dumps(list(events), ensure_ascii=False).encode()


def changed(without: str = "", **members: Any) -> dict[str, Any]:
    """The event with other members, `dollar_` standing for `$`."""
    renamed = {name.replace("dollar_", "$"): value for name, value in members.items()}
    return {name: value for name, value in (SENT | renamed).items() if name != without}


def parsed(door: SuprSendDoor, sent: bytes) -> ParsedEvents:
    return door.parse(request_meta(), sent, LIMITS)


def check(event: Any) -> Event | Refusal:
    ((_, found),) = validated(parsed(DOOR, json.dumps(event).encode()), NOW)
    return found


def accepted(event: Any) -> Event:
    found = check(event)
    assert isinstance(found, Event), found
    return found


def refused(event: Any) -> tuple[str, str]:
    found = check(event)
    assert isinstance(found, Refusal), found
    return found.code, found.field


def taken(found: ParsedEvents) -> RequestRecords:
    return build_records(
        found, SOURCE, RecordContext(SourceFields.of(SOURCE), NOW, Client("suprsend", "", ""))
    )


def answer(door: SuprSendDoor, sent: bytes) -> Answer:
    found = parsed(door, sent)
    return door.reply(request_meta(), found, taken(found).outcome())


# What the document says


@pytest.mark.parametrize(
    ("sent", "user"),
    [
        (7, "7"),
        (-7, "-7"),
        (2**63, "9223372036854775808"),
        (10**200, "1" + "0" * 200),
        ("ada", "ada"),
        (" ada ", "ada"),
        (UUID, UUID),
    ],
)
def test_distinct_id_may_be_an_integer_of_any_size_a_string_or_a_uuid(sent: Any, user: str) -> None:
    assert accepted(changed(distinct_id=sent)).user_id == user


@pytest.mark.parametrize("sent", [None, 1.5, True, [], {}])
def test_a_distinct_id_of_any_other_type_is_rejected(sent: Any) -> None:
    assert refused(changed(distinct_id=sent)) == ("wrong_type", "distinct_id")


def test_a_missing_or_blank_distinct_id_is_rejected() -> None:
    assert refused(changed(without="distinct_id")) == ("missing", "distinct_id")
    assert refused(changed(distinct_id="  ")) == ("missing", "distinct_id")


def test_event_name_must_be_a_non_blank_string_without_control_characters() -> None:
    assert refused(changed(without="event")) == ("missing", "event")
    assert refused(changed(event=" ")) == ("invalid_name", "event")
    assert refused(changed(event=5)) == ("wrong_type", "event")
    assert accepted(changed(event=" Product Purchased ")).name == "Product Purchased"
    assert refused(changed(event="Product\tPurchased")) == ("invalid_name", "event")


def test_properties_are_optional_and_must_be_an_object() -> None:
    assert accepted(changed(without="properties")).properties == b"{}"
    assert accepted(changed(properties=None)).properties == b"{}"
    assert json.loads(accepted(SENT).properties) == SENT["properties"]
    assert refused(changed(properties=["a"])) == ("wrong_type", "properties")


@pytest.mark.parametrize("name", ["$mine", "ss_mine", "SS_mine", "Ss_mine"])
def test_an_event_name_with_a_reserved_prefix_is_rejected(name: str) -> None:
    assert refused(changed(event=name)) == ("reserved_name", "event")


@pytest.mark.parametrize("name", ["$mine", "ss_mine", "SS_mine", "sS_mine", " $mine", "\u00a0Ss_"])
def test_a_top_level_property_name_with_a_reserved_prefix_is_rejected(name: str) -> None:
    code, field = refused(changed(properties={"fine": {name: 1}, name: 1}))
    assert (code, field) == ("reserved_name", f"properties.{name}")
    assert accepted(changed(properties={"fine": {name: 1}}))
    assert accepted(changed(properties={"fine": name, "mass_": 1, "US$": "\\"}))


def test_a_reserved_property_name_is_rejected_when_written_with_json_escapes() -> None:
    sent = json.dumps(changed(properties={"SS_mine": 1})).replace("SS_", "\\u0053S_")
    found = validated(parsed(DOOR, sent.encode()), NOW)[0][1]
    assert isinstance(found, Refusal)
    assert (found.code, found.field) == ("reserved_name", "properties.SS_mine")


@pytest.mark.parametrize("name", sorted(n for n in OWN_NAMES if n not in ("$attachments",)))
def test_the_sdks_own_reserved_names_are_accepted(name: str) -> None:
    if name.startswith("$ss_"):
        assert accepted(changed(properties={name: "suprsend-py-sdk/0.20.0"}))
    else:
        assert accepted(changed(event=name)).name == name


def test_an_idempotency_key_is_trimmed_and_has_at_most_255_characters() -> None:
    assert accepted(changed(dollar_idempotency_key=" a b ")).idempotency_key == "a b"
    longest = "k" * 255
    assert accepted(changed(dollar_idempotency_key=f" {longest} ")).idempotency_key == longest
    assert refused(changed(dollar_idempotency_key=longest + "k")) == (
        "too_long",
        "$idempotency_key",
    )
    assert refused(changed(dollar_idempotency_key=5)) == ("wrong_type", "$idempotency_key")


def test_insert_id_is_the_idempotency_key_when_none_is_sent() -> None:
    assert accepted(SENT).idempotency_key == SENT["$insert_id"]
    assert accepted(changed(dollar_idempotency_key=None)).idempotency_key == SENT["$insert_id"]
    for blank in ("", "  "):
        sent = changed(dollar_idempotency_key=blank)
        assert accepted(sent).idempotency_key == SENT["$insert_id"]
    assert accepted(changed(without="$insert_id")).idempotency_key == ""


def test_the_dedup_window_is_24_hours() -> None:
    assert parsed(DOOR, json.dumps(SENT).encode()).window_seconds == 24 * 60 * 60


def test_a_retry_with_the_same_idempotency_key_has_the_same_payload_digest() -> None:
    """The digest ignores `$insert_id` and `$time`, which the SDK changes on every retry."""

    def digest(**members: Any) -> bytes:
        sent = changed(dollar_idempotency_key="k", **members)
        ((_, _, value),) = taken(parsed(DOOR, json.dumps(sent).encode())).records
        assert value is not None
        return value[26:34]

    first = digest()
    assert digest(dollar_insert_id=str(uuid.uuid4()), dollar_time=NOW + 1) == first
    assert digest(properties={"first_name": "Bob"}) != first
    assert digest(distinct_id="another") != first
    assert digest(tenant_id="another") != first


def test_an_event_larger_than_100_kb_is_rejected_with_413() -> None:
    room = 100 * 1024 - len(json.dumps(changed(properties={"x": ""})))
    assert accepted(changed(properties={"x": "x" * room}))
    large = json.dumps(changed(properties={"x": "x" * (room + 1)})).encode()
    assert answer(DOOR, large).status == 413
    (record,) = json.loads(answer(BULK, b"[%b]" % large).body)["records"]
    assert (record["status"], record["status_code"]) == ("error", 413)


def attached(*attachments: Any) -> dict[str, Any]:
    return changed(properties={"$attachments": list(attachments)})


def by_url(url: str | None, **members: Any) -> dict[str, Any]:
    """As the SDK writes it."""
    empty = {"filename": None, "contentType": None, "data": None, "ignore_if_error": False}
    return {**empty, "url": url, **members}


def test_an_attachment_with_a_public_url_is_accepted() -> None:
    found = accepted(attached(by_url("https://files.example.com/1.pdf", filename="1.pdf")))
    assert json.loads(found.properties)["$attachments"][0]["filename"] == "1.pdf"
    assert accepted(changed(properties={"$attachments": None}))
    assert accepted(attached())


@pytest.mark.parametrize(
    "attachment",
    [
        by_url("/home/ada/report.pdf"),
        by_url("file:///home/ada/report.pdf"),
        by_url(None, data="JVBERi0=", filename="report.pdf", contentType="application/pdf"),
        by_url("https://files.example.com/1.pdf", data="JVBERi0="),
        by_url(None),
        by_url("http://10.0.0.1/report.pdf"),
        by_url("http://localhost/report.pdf"),
        by_url("http://2130706433/report.pdf", ignore_if_error=True),
    ],
)
def test_an_attachment_with_a_local_path_or_private_address_is_rejected_with_404(
    attachment: Any,
) -> None:
    code, field = refused(attached(by_url("https://files.example.com/1.pdf"), attachment))
    assert (code, field) == ("attachment_not_found", "properties.$attachments[1]")
    said = answer(DOOR, json.dumps(attached(attachment)).encode())
    assert said.status == 404
    assert json.loads(said.body)["error"]["message"].startswith("404 not found: ")


@pytest.mark.parametrize("attachments", [{}, "https://files.example.com/1.pdf", [1], [{"url": 1}]])
def test_attachments_that_are_not_a_list_of_objects_are_rejected(attachments: Any) -> None:
    sent = changed(properties={"$attachments": attachments})
    assert refused(sent) == ("wrong_type", "properties.$attachments")


def test_a_private_attachment_is_rejected_when_its_name_has_json_escapes() -> None:
    escaped = json.dumps(attached(by_url("http://10.0.0.1/x"))).replace("$att", "\\u0024\\u0061tt")
    found = validated(parsed(DOOR, escaped.encode()), NOW)[0][1]
    assert isinstance(found, Refusal)
    assert found.code == "attachment_not_found"


def test_a_private_attachment_behind_a_duplicate_member_name_is_rejected() -> None:
    plain = json.dumps(attached(by_url("https://files.example.com/1.pdf")))
    for hidden in (
        plain.replace(
            '"$attachments"', '"$attachments": [{"url": "http://10.0.0.1/"}], "$attachments"'
        ),
        plain.replace('"url"', '"url": "http://10.0.0.1/", "url"'),
    ):
        found = validated(parsed(DOOR, hidden.encode()), NOW)[0][1]
        assert isinstance(found, Refusal)
        assert found.code == "invalid_json"


# What the SDK sends


def test_an_sdk_event_becomes_an_event_with_its_name_and_time() -> None:
    found = accepted(SENT)
    assert (found.name, found.occurred_at) == ("product_purchased", NOW)
    assert found.context == b"{}"


def test_other_members_except_the_workspace_key_go_into_the_context() -> None:
    sent = changed(tenant_id="acme", brand_id="b", more={"x": [1.0]}, env="workspace-uid")
    assert json.loads(accepted(sent).context) == {
        "env": "workspace-uid",
        "tenant_id": "acme",
        "brand_id": "b",
        "more": {"x": [1.0]},
    }
    assert KEY.encode() not in accepted(changed(more=1)).context


def test_each_event_of_a_bulk_request_is_validated_independently() -> None:
    sent = body(SENT, changed(without="event"), 5, changed(event="another"))
    found = parsed(BULK, sent)
    assert [one.raw in sent for one in found.events] == [True] * 4
    codes = [f.code if isinstance(f, Refusal) else f.name for _, f in validated(found, NOW)]
    assert codes == ["product_purchased", "missing", "not_an_object", "another"]


def test_half_a_surrogate_pair_rejects_only_its_own_event() -> None:
    sent = body(SENT, changed(properties={"x": "CUT"})).replace(b"CUT", b"\\ud83d")
    found = validated(parsed(BULK, sent), NOW)
    codes = [event.code if isinstance(event, Refusal) else "" for _, event in found]
    assert codes == ["", "invalid_json"]


@pytest.mark.parametrize(
    ("door", "sent", "code"),
    [
        (DOOR, b"", "empty_body"),
        (DOOR, b"{", "invalid_json"),
        (DOOR, b"\xff", "invalid_utf8"),
        (BULK, b"", "empty_body"),
        (BULK, b"{}", "invalid_body"),
        (BULK, b"[]", "no_events"),
        (BULK, b"[{]", "invalid_json"),
        (BULK, b"[" + b",".join([b"{}"] * 2_001) + b"]", "too_many_events"),
    ],
)
def test_a_body_without_readable_events_is_rejected_as_a_whole(
    door: SuprSendDoor, sent: bytes, code: str
) -> None:
    assert problem_of(door.parse, request_meta(), sent, LIMITS).code == code


@given(st.binary(max_size=80) | st.recursive(st.none() | st.text(), st.lists).map(body))
def test_any_body_gets_a_reply_with_status_202_or_400_or_a_problem(sent: bytes) -> None:
    for door in (DOOR, BULK):
        found = parse(door, request_meta(), sent, LIMITS)
        if isinstance(found, ParsedEvents):
            assert door.reply(request_meta(), found, taken(found).outcome()).status in (202, 400)


# What the SDK reads


def test_an_accepted_event_returns_its_message_id() -> None:
    said = answer(DOOR, json.dumps(SENT).encode())
    assert said.status == 202
    assert uuid.UUID(json.loads(said.body)["message_id"])


def test_a_refusal_names_the_sdks_field() -> None:
    for members, message in (
        ({"dollar_idempotency_key": "k" * 256}, "$idempotency_key has 256 characters"),
        ({"dollar_insert_id": "k" * 256}, "$insert_id has 256 characters"),
        ({"dollar_time": -(10**13)}, "$time is before 1900"),
        ({"dollar_time": "now"}, "$time must be epoch seconds or milliseconds"),
        ({"distinct_id": "u\x00"}, "distinct_id must not contain control characters"),
    ):
        said = answer(DOOR, json.dumps(changed(**members)).encode())
        assert said.status == 400
        assert json.loads(said.body)["error"]["message"].startswith(message)


def test_a_time_too_far_in_the_future_is_dropped_and_the_event_accepted() -> None:
    """An event from a clock that is ahead is accepted: the SDK does not send a rejected event again."""
    assert accepted(changed(dollar_time=NOW + 3_600_000)).occurred_at == NOW + 3_600_000
    assert accepted(changed(dollar_time=NOW + 3_600_001)).occurred_at is None  # when received


def test_a_bulk_reply_has_one_record_per_event_in_order() -> None:
    said = answer(BULK, body(SENT, changed(event="$mine"), SENT, attached(by_url("http://db/"))))
    assert said.status == 202
    records = json.loads(said.body)["records"]
    assert [r["status"] for r in records] == ["success", "error", "success", "error"]
    assert [r["status_code"] for r in records] == [202, 400, 202, 404]
    assert [bool(r["message_id"]) for r in records] == [True, False, True, False]
    assert "names starting with $ or ss_" in records[1]["error"]["message"]


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_is_answered_as_an_error_with_a_message(code: str) -> None:
    trouble = Problem(code, "Why.", "", 2)
    for door in (DOOR, BULK):
        said = door.refuse(request_meta(), trouble, b"X: y\r\n")
        reply = json.loads(said.body)
        assert said.status == PROBLEMS[code].status
        assert said.kind == b"application/json"
        assert said.headers == b"X: y\r\nRetry-After: 2\r\n"
        assert reply["error"]["message"].startswith(PROBLEMS[code].title)
        assert set(reply) == ({"error"} if door is DOOR else {"error", "records"})


def test_the_key_is_read_from_the_authorization_header_and_else_empty() -> None:
    for given_, key in (
        (f"{KEY}:abc=", KEY),
        (f"Bearer {KEY}", KEY),
        ("abc", ""),
        ("", ""),
        (":abc", ""),
    ):
        assert DOOR.credentials(request_meta(Authorization=given_)) == Credentials(key=key)


def test_rejected_events_are_stored_with_their_original_bytes() -> None:
    found = parsed(BULK, body(changed(event="$mine")))
    ((topic, _, value),) = taken(found).records
    assert topic == "events.rejected"
    assert found.events[0].raw in (value or b"")


def test_a_bulk_reply_lists_records_even_when_no_event_is_accepted() -> None:
    found = parsed(BULK, body(changed(event="$mine")))
    said = BULK.reply(request_meta(), found, Outcome([], taken(found).refused))
    assert [r["status"] for r in json.loads(said.body)["records"]] == ["error"]
