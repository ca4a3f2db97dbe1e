"""Write keys never reach the topic of rejected events, in any spelling."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.adapters import avro
from weir.core.registry import Source
from weir.gateway.doors.segment import door as segment
from weir.gateway.http.error_codes import Problem, Refusal
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import RecordContext, build_records, rejected_body
from weir.gateway.ingest.parsed_events import ParsedEvent, ParsedEvents
from weir.gateway.ingest.redact_keys import masked

KEY = 'key/of="ä€😀\\shop'
SOURCE = Source(id="shop")
REJECTED = avro.schemas()["Rejected"]


def payload_of(value: bytes | None) -> bytes:
    assert value is not None
    payload = REJECTED.decode(value)["payload"]
    assert isinstance(payload, bytes)
    return payload


def record_context(key: str) -> RecordContext:
    return RecordContext(SourceFields.of(SOURCE), 0, Client("d", "", ""), key)


@pytest.mark.parametrize(
    "spelled",
    [
        KEY,
        json.dumps(KEY)[1:-1],
        json.dumps(KEY, ensure_ascii=False)[1:-1],
        json.dumps(KEY)[1:-1].replace("/", r"\/").replace("=", r"\u003D"),
        "".join(rf"\u{KEY.encode('utf-16-be')[at : at + 2].hex()}" for at in range(0, 34, 2)),
    ],
)
def test_a_key_is_masked_in_every_spelling(spelled: str) -> None:
    payload = f'{{"env": "{spelled}", "x": "\\n{spelled}!"}}'.encode()
    assert masked(payload, KEY) == b'{"env": "***", "x": "\\n***!"}'


TEXTS = st.text(min_size=8, alphabet=st.characters(codec="utf-8", exclude_characters='"'))


@given(TEXTS, st.booleans())
def test_any_key_in_a_json_payload_is_masked(key: str, is_ascii: bool) -> None:
    payload = json.dumps([key, "a\n"], ensure_ascii=is_ascii).encode()
    assert json.loads(masked(payload, key)) == ["***", "a\n"]


def test_a_payload_without_the_key_is_unchanged() -> None:
    payload = b'{"event": "\\u006b"}'
    assert masked(payload, "") == payload
    assert masked(payload, "another-key") == payload


def test_rejected_events_are_stored_without_the_requests_key() -> None:
    raw = b'{"env": "key-of-shop", "event": 5}'
    events = ParsedEvents([ParsedEvent(raw, Refusal("wrong_type", "event", "must be a string"))])
    ((topic, _, value),) = build_records(events, SOURCE, record_context("key-of-shop")).records
    assert topic == "events.rejected"
    assert payload_of(value) == b'{"env": "***", "event": 5}'
    ((_, _, whole),) = build_records(events, SOURCE, record_context("")).records
    assert payload_of(whole) == raw


def test_rejected_bodies_are_stored_without_the_requests_key() -> None:
    trouble = Problem("invalid_json", "Not JSON.")
    _, _, value = rejected_body(trouble, b'["key-of-shop", ', record_context("key-of-shop"))
    assert payload_of(value) == b'["***", '


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b'{"batch": 1, "writeKey" : "other-key"}', b'{"batch": 1, "writeKey" : "***"}'),
        (b'{"writeKey":"a\\"b","x":"y"}', b'{"writeKey":"***","x":"y"}'),
        (b'{"batch": [{"writeKey": "k"}], "writeKey": "cut', b'{"batch": [{"writeKey": "***"}], "writeKey": "***'),
        (b'{"writeKey": 12}', b'{"writeKey": 12}'),
    ],
)  # fmt: skip
def test_every_write_key_in_a_segment_body_is_masked(body: bytes, kept: bytes) -> None:
    """Write keys are masked even in bodies that are not JSON, or when they differ from the header's."""
    assert segment.BATCH.redact(body) == kept
