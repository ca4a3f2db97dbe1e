"""The fuzzing oracle detects each fault that it must not let pass."""

from typing import Any

import pytest

from tests.fuzz.explore import FoundError, explore
from tests.fuzz.golden import Sent
from tests.fuzz.inputs import requests
from tests.fuzz.oracle import (
    Answer,
    check_answer,
    check_documented,
    check_record,
    read_answers,
)
from tests.support.events import NOON, accepted, accepted_output
from weir.core import topics


@pytest.mark.parametrize(
    "fields",
    [
        {"properties": '{"a":1e400}'},
        {"properties": '{"a":NaN}'},
        {"properties": '{"a":"\\ud800"}'},
        {"context": "[]"},
        {"context": '{"a":' + "[" * 32 + "]" * 32 + "}"},
        {"event": ""},
        {"event": "x" * 256},
        {"user_id": "a\0b"},
        {"occurred_at": NOON + 3_600_001},
        {"identity_key": "u:another"},
    ],
)
def test_the_oracle_detects_a_record_with_invalid_fields(fields: dict[str, Any]) -> None:
    key, value = accepted_output(accepted())
    check_record((topics.ACCEPTED, key, value))
    key, value = accepted_output(accepted(**fields))
    with pytest.raises((AssertionError, UnicodeError)):
        check_record((topics.ACCEPTED, key, value))


def test_the_oracle_detects_a_truncated_record() -> None:
    key, value = accepted_output(accepted())
    with pytest.raises(EOFError):
        check_record((topics.ACCEPTED, key, value[:-3]))


@pytest.mark.parametrize("status", [500, 502, 504])
def test_the_oracle_detects_an_http_5xx_other_than_503(status: int) -> None:
    check_answer(Answer(503, {}, b""))
    with pytest.raises(AssertionError):
        check_answer(Answer(status, {}, b""))


def test_the_oracle_detects_an_undocumented_status() -> None:
    check_documented("POST", "/v1/events", Answer(202, {}, b""))
    with pytest.raises(AssertionError):
        check_documented("POST", "/v1/events?key=x", Answer(418, {}, b""))


@pytest.mark.parametrize(
    "received",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX: a\nb\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nmore",
    ],
)
def test_the_oracle_detects_a_malformed_http_answer(received: bytes) -> None:
    with pytest.raises(AssertionError):
        read_answers(received, [])


def test_a_failing_fuzz_input_is_shrunk_to_a_small_one() -> None:
    def check(sent: Sent) -> None:
        assert b"event" not in sent.body

    with pytest.raises(FoundError) as found:
        explore(requests(), check, lambda sent: [sent.body], 1, 200)
    assert b"event" in found.value.pieces[0]
    assert len(found.value.pieces[0]) < 1_000
