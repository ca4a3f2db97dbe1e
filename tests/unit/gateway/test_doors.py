"""The doors tell events apart, whatever shape they come in, and say what became of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.doors.events import Refused, Sent, client_id, read_events, reply
from services.gateway.doors.webhook import check_webhook, read_webhook
from services.gateway.refusals import KEPT, PROBLEMS, Problem, Refusal

EVENT = b'{"event":"a"}'


def read(body: bytes, is_ndjson: bool = False) -> list[bytes] | str:
    sent = read_events(body, is_ndjson, 3)
    return [bytes(one) for one in sent.events] if isinstance(sent, Sent) else sent.code


@pytest.mark.parametrize(
    "body",
    [
        EVENT,
        b" \n" + EVENT + b"\r\n",
        b"[" + EVENT + b"]",
        b"[ " + EVENT + b" ]",
        b'{"events":[' + EVENT + b"]}",
        b'{"context":null, "events" : [ ' + EVENT + b" ]}",
        EVENT + b"\n\n",
    ],
)
def test_an_event_has_the_same_bytes_in_any_shape(body: bytes) -> None:
    assert read(body) == [EVENT]


def test_pretty_printed_json_is_not_ndjson() -> None:
    pretty = b'{\n "event": "a"\n}'
    assert read(pretty) == [pretty]
    assert read(pretty[:-2]) == "invalid_json"


def test_ndjson_by_its_lines_or_its_type() -> None:
    assert read(EVENT + b"\n" + EVENT) == [EVENT, EVENT]
    assert read(b'{"event":\n' + EVENT, is_ndjson=True) == [b'{"event":', EVENT]
    assert read(b"x\ny", is_ndjson=True) == [b"x", b"y"]
    assert read(EVENT * 2) == "invalid_json"


@pytest.mark.parametrize("count", [3, 4])
def test_the_cap_is_the_same_for_each_shape(count: int) -> None:
    expected = [EVENT] * 3 if count == 3 else "too_many_events"
    assert read(b"[" + b",".join([EVENT] * count) + b"]") == expected
    assert read(b"\n".join([EVENT] * count)) == expected
    assert read(b'{"events":[' + b",".join([EVENT] * count) + b"]}") == expected


@given(st.binary(max_size=100), st.booleans())
def test_any_body_gets_an_answer(body: bytes, is_ndjson: bool) -> None:
    assert isinstance(read_events(body, is_ndjson, 3), Sent | Problem)
    found = read_webhook(body)
    assert isinstance(found, bytes | Problem)


def test_the_reply_is_json() -> None:
    refused = [Refused(1, 'k"1', Refusal("wrong_type", "value", "must be a finite number"))]
    assert json.loads(reply(["x", "y"], refused)) == {
        "accepted": 2,
        "rejected": [
            {
                "index": 1,
                "id": 'k"1',
                "code": "wrong_type",
                "field": "value",
                "message": "value must be a finite number",
            }
        ],
        "event_ids": ["x", "y"],
    }
    assert json.loads(reply([], [])) == {"accepted": 0, "rejected": [], "event_ids": []}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"id":"a","idempotency_key":"b"}', "b"),
        (b'{"id":"a"}', "a"),
        (b'{"id":5}', "5"),
        (b'{"id":null}', ""),
        (b"[1]", ""),
        (b"{", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_a_refused_event_is_named_if_it_can_be(raw: bytes, expected: str) -> None:
    assert client_id(raw) == expected


def test_a_webhook_keeps_its_bytes_and_any_names() -> None:
    body = b'{"$x": 1.0,  "nested": {"a": []}}'
    event = check_webhook("push", body, "key")
    assert not isinstance(event, Refusal)
    assert (event.properties, event.idempotency_key, event.user_id) == (body, "key", "")


def test_every_problem_has_a_place() -> None:
    assert set(PROBLEMS) >= KEPT
    assert {kind.status for kind in PROBLEMS.values()} <= set(range(400, 504))
