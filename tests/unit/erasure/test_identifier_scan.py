"""The scan finds an identifier as a whole word in any notation, and never inside another word."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.adapters import avro
from weir.erasure.identifier_scan import IdentifierScan, forms


@pytest.mark.parametrize(
    "content",
    [
        b'{"user_id": "ada-17"}',
        b"userId=ada-17&event=x",
        b'{"profile":{"id":"ada-17"}}',
        b"{'distinct_id': 'ada-17'}",
        b'"previousId" : "ada-17"',
    ],
)
def test_an_identifier_in_an_id_field_is_found(content: bytes) -> None:
    assert IdentifierScan(["ada-17"]).named(content)
    assert IdentifierScan(["ada-17"]).anywhere(content)


@pytest.mark.parametrize(
    "content",
    [b'{"user_id": "ada-170"}', b'{"user_id": "xada-17"}', b'{"user_id": "ada-17-b"}', b""],
)
def test_an_identifier_inside_a_longer_one_is_not_found(content: bytes) -> None:
    assert not IdentifierScan(["ada-17"]).named(content)
    assert not IdentifierScan(["ada-17"]).anywhere(content)


def test_an_identifier_outside_id_fields_is_found_anywhere_but_not_as_named() -> None:
    content = b'{"user_id": "bob", "friend": "ada-17"}'
    assert IdentifierScan(["ada-17"]).anywhere(content)
    assert not IdentifierScan(["ada-17"]).named(content)


def test_an_integer_identifier_is_found_only_in_an_id_field() -> None:
    assert IdentifierScan(["7"]).named(b'{"user_id": 7}')
    assert not IdentifierScan(["7"]).named(b'{"user_id": 77}')
    assert not IdentifierScan(["7"]).named(b'{"quantity": 7}')


@pytest.mark.parametrize("written", [b'"\\u00e9-1"', '"é-1"'.encode()])
def test_a_json_escaped_identifier_is_found(written: bytes) -> None:
    assert IdentifierScan(["é-1"]).named(b'{"id": ' + written + b"}")


def test_a_scan_without_identifiers_finds_nothing() -> None:
    assert not IdentifierScan([]).anywhere(b"anything")
    assert not IdentifierScan([""]).named(b'{"id": ""}')


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=100), st.text(max_size=10))
def test_an_identifier_in_an_avro_record_is_found_beside_any_other_fields(
    sought: str, beside: str
) -> None:
    schema = avro.schemas()["Link"]
    link = {
        "workspace": beside,
        "identity_key": beside,
        "profile_id": sought,
        "owner": beside,
        "source": "",
        "received_at": 0,
        "event_id": b"e" * 16,
    }
    assert IdentifierScan([sought]).anywhere(schema.encode(link))


WRITTEN = st.lists(st.text("ab-7 =:\"'id/é", min_size=1, max_size=4), max_size=6)


@given(WRITTEN, st.text("ab-7 =:\"'id/éD", max_size=30))
def test_a_scan_for_many_identifiers_finds_the_same_as_a_regular_expression(
    identifiers: list[str], content: str
) -> None:
    """The scan agrees with a regular expression over every form of every identifier."""
    sought = content.encode()
    traces = IdentifierScan(identifiers)
    written = b"|".join(re.escape(form.encode()) for i in identifiers for form in forms(i))
    word = rb"[0-9A-Za-z_\-]"
    alone = written and re.search(rb"(?<!%s)(?:%s)(?!%s)" % (word, written, word), sought)
    named = written and re.search(
        rb"(?i:id)[\"']?\s*[:=]\s*[\"']?(?:%s)(?!%s)" % (written, word), sought
    )
    assert bool(alone) == traces.anywhere(sought)
    assert bool(named) == traces.named(sought)
