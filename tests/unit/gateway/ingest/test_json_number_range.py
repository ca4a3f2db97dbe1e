"""Numbers beyond the range of a double are found anywhere in JSON, and nothing else is."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.gateway.ingest.json_number_range import may_overflow, overflows


def found(raw: bytes) -> bool:
    """As the doors ask: the closer look only where the first one asks for it."""
    return may_overflow(raw) and overflows(raw)


@pytest.mark.parametrize(
    "number",
    ["1e309", "-1e999", "1.8E+308", "1e0309", "9" * 310 + ".5", "9" * 250 + "e99", "1e" + "9" * 30],
)
def test_numbers_beyond_a_double_are_found(number: str) -> None:
    for raw in (f'{{"a":{number}}}', f"[ {number} ]", f'{{"a":[[0,{number}],"x"]}}'):
        assert found(raw.encode())


@pytest.mark.parametrize(
    "number",
    ["1e308", "-1.797e308", "0e999", "1e-999", "9" * 400, "9" * 400 + "e-300", "0." + "0" * 400],
)
def test_numbers_that_can_be_stored_are_not_reported(number: str) -> None:
    assert not found(f'{{"a":{number}}}'.encode())


@pytest.mark.parametrize("text", ["1e999", ": 1e999,", '\\": 1e999 ', "4466551e9990000", "[-1e999"])
def test_numbers_inside_strings_are_not_reported(text: str) -> None:
    assert not found(f'{{"{text}":"{text}"}}'.encode())


mantissas = st.from_regex(r"-?(0|[1-9][0-9]{0,320})(\.[0-9]{1,4})?", fullmatch=True)
exponents = st.from_regex(r"([eE][+-]?[0-9]{1,4})?", fullmatch=True)


@given(mantissas, exponents, st.text(max_size=8))
def test_a_number_is_reported_exactly_when_a_double_would_be_infinite(
    mantissa: str, exponent: str, text: str
) -> None:
    number = mantissa + exponent
    is_integer = number.lstrip("-").isdigit()
    raw = f"{{{json.dumps(text)}:{number}}}".encode()
    assert found(raw) == (not is_integer and math.isinf(float(number)))


def test_many_lookalikes_trigger_the_full_check_which_finds_nothing() -> None:
    assert may_overflow(b'{"x":"' + b"a0e000" * 2_000 + b'"}')
    assert not found(b'{"x":"' + b"a0e000" * 2_000 + b'"}')


def test_hex_ids_do_not_trigger_the_full_check() -> None:
    assert not may_overflow(b'{"id":"0f8fad5b-d9cb-469f-a165-70867728950e","x":"1e999"}')
    assert not may_overflow(b'{"id":"550e8400-e29b-41d4-a716-4466554e0000"}')
