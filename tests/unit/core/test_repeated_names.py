"""The first value of a repeated JSON member name wins everywhere."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.core.repeated_names import without_repeats
from weir.gateway.ingest.validation import Event, Policy, Shared, parse_event, validate

REPEATED = {
    b'{"plan":"free","plan":"pro"}': b'{"plan":"free"}',
    rb'{"plan":"free","pl\u0061n":"pro","n":1.10}': b'{"plan":"free","n":1.10}',
    b'{"a":{"x":1},"a":{"y":2}}': b'{"a":{"x":1}}',
    b'{"a":[{"b":1,"b":2}]}': b'{"a":[{"b":1}]}',
    b'{"a":1,"a":{"b":2}}': b'{"a":1}',
    b'{"n":123456789012345678901234567890,"n":1e5}': b'{"n":123456789012345678901234567890}',
}


@pytest.mark.parametrize("raw", REPEATED)
def test_the_first_value_of_a_repeated_name_is_kept(raw: bytes) -> None:
    assert without_repeats(raw) == REPEATED[raw]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_json_without_repeated_names_is_returned_unchanged(value: object) -> None:
    raw = json.dumps({"a": value}, indent=1).encode()
    assert without_repeats(raw) is raw


def test_identity_reads_the_first_value_of_a_trait_repeated_in_an_event() -> None:
    raw = b'{"event":"$identify","user_id":"u","properties":{"plan":"free","plan":"pro"}}'
    event = validate(parse_event(raw), raw, Shared(b"", raw), 0, Policy())
    assert isinstance(event, Event)
    # identity decodes the traits like this
    assert msgspec.json.decode(event.properties) == {"plan": "free"}
