"""Validation accepts or rejects one event for any input, beyond what the golden examples cover."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.gateway.http.error_codes import Refusal
from weir.gateway.ingest.validation import (
    MAX_EVENT_BYTES,
    Event,
    Policy,
    Shared,
    is_deeper,
    parse_event,
    reserved_in,
    validate,
)

NOW = 1_760_011_200_000
HOUR = 3_600_000


def check(raw: bytes, shared: bytes = b"") -> Event | Refusal:
    return validate(parse_event(raw), raw, Shared(shared, shared + raw), NOW, Policy())


def code(raw: bytes) -> str:
    found = check(raw)
    return found.code if isinstance(found, Refusal) else ""


@pytest.mark.parametrize(
    ("at", "expected"), [(NOW + HOUR, ""), (NOW + HOUR + 1, "in_future"), (0, ""), (-1, "")]
)
def test_an_event_more_than_one_hour_in_the_future_is_rejected(at: int, expected: str) -> None:
    assert code(b'{"event":"a","occurred_at":%d}' % at) == expected


def test_fractions_of_milliseconds_are_truncated() -> None:
    event = check(b'{"event":"a","occurred_at":1760011200000.9}')
    assert isinstance(event, Event)
    assert event.occurred_at == NOW
    event = check(b'{"event":"a","occurred_at":"2025-10-09T12:00:00.0009Z"}')
    assert isinstance(event, Event)
    assert event.occurred_at == NOW


def test_an_event_with_more_bytes_than_the_limit_is_rejected() -> None:
    room = MAX_EVENT_BYTES - len(b'{"event":"a","properties":{"x":""}}')
    assert code(b'{"event":"a","properties":{"x":"%b"}}' % (b"x" * room)) == ""
    assert code(b'{"event":"a","properties":{"x":"%b"}}' % (b"x" * (room + 1))) == "too_large"


def test_many_sibling_brackets_and_brackets_in_strings_do_not_count_as_depth() -> None:
    wide = json.dumps({"event": "a", "properties": {"x": [{}] * 500, "y": '{[\\"' * 50}})
    assert code(wide.encode()) == ""


def test_deeply_nested_events_are_rejected_without_a_crash() -> None:
    for levels in (40, 900, 20_000):
        assert code(b'{"event":"a","properties":' + b'{"a":' * levels) in {
            "too_deep",
            "invalid_json",
        }
        nested = b"[" * levels + b"]" * levels
        assert code(b'{"event":"a","context":' + nested + b"}") == "too_deep"


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=20,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@given(json_values, st.integers(0, 6), st.booleans())
def test_is_deeper_computes_the_exact_depth_of_any_json(
    value: Any, levels: int, ascii_only: bool
) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")
    assert is_deeper(raw, levels) == (depth(value) > levels)


def spelled_out(name: str) -> str:
    """Every character as its escape, where it has one of its own."""
    return "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else c for c in name)


@given(
    st.dictionaries(
        st.one_of(st.text(), st.sampled_from(["$", "ss_", "s", "ss", "$a", "ss_b"])), st.none()
    )
)
def test_reserved_names_are_found_in_any_json_escaping(members: dict[str, None]) -> None:
    members = {name.encode("utf-8", "replace").decode(): None for name in members}
    reserved = any(name.startswith(("$", "ss_")) for name in members)
    escaped = ",".join(f'"{spelled_out(name)}":null' for name in members)
    plain = json.dumps(members).encode()
    for properties in (plain, b"{" + escaped.encode() + b"}"):
        assert bool(reserved_in(properties)) == reserved
        assert (
            code(b'{"event":"a","properties":' + properties + b"}") == "reserved_name"
        ) == reserved


@given(st.binary(max_size=200))
def test_any_bytes_yield_an_event_or_a_refusal(raw: bytes) -> None:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return  # refused before it comes to events
    assert isinstance(check(raw), Event | Refusal)


@given(
    json_values,
    st.sampled_from(["event", "user_id", "id", "value", "occurred_at", "properties", "x"]),
)
def test_any_value_in_any_field_yields_an_event_or_a_refusal(value: Any, field: str) -> None:
    raw = json.dumps({"event": "a", field: value}, ensure_ascii=True).encode()
    assert isinstance(check(raw), Event | Refusal)


def test_the_shared_context_is_merged_under_the_events_own_context() -> None:
    shared = b'{"a": 1.0, "b": {"x": 1}}'
    event = check(b'{"event":"a","context":{"b":{"y":2},"c":3e0}}', shared)
    assert isinstance(event, Event)
    assert event.context == b'{"a":1.0,"b":{"y":2},"c":3e0}'
    event = check(b'{"event":"a"}', shared)
    assert isinstance(event, Event)
    assert event.context == shared  # as it was written


def test_large_integers_keep_their_digits() -> None:
    for user in ("9" * 255, "-" + "9" * 254):
        event = check(b'{"event":"a","user_id":%b}' % user.encode())
        assert isinstance(event, Event)
        assert event.user_id == user
    assert code(b'{"event":"a","user_id":%b}' % (b"9" * 256)) == "too_long"
    assert code(b'{"event":"a","user_id":%b}' % (b"9" * 5_000)) == "out_of_range"


def test_an_unterminated_string_is_scanned_in_linear_time() -> None:
    # quadratic, this took half a minute; the test's own limit is what would fail it
    assert is_deeper(b"{" * 33 + b'"' + b'\\"' * 50_000, 32)
