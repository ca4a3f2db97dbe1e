"""An identifier is found where it stands by itself, in whatever way it is written, and nowhere else."""

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
def test_who_a_payload_is_about(content: bytes) -> None:
    assert IdentifierScan(["ada-17"]).named(content)
    assert IdentifierScan(["ada-17"]).anywhere(content)


@pytest.mark.parametrize(
    "content",
    [b'{"user_id": "ada-170"}', b'{"user_id": "xada-17"}', b'{"user_id": "ada-17-b"}', b""],
)
def test_a_part_of_another_is_not_it(content: bytes) -> None:
    assert not IdentifierScan(["ada-17"]).named(content)
    assert not IdentifierScan(["ada-17"]).anywhere(content)


def test_a_mention_is_a_trace_and_does_not_say_whose_it_is() -> None:
    content = b'{"user_id": "bob", "friend": "ada-17"}'
    assert IdentifierScan(["ada-17"]).anywhere(content)
    assert not IdentifierScan(["ada-17"]).named(content)


def test_integers_are_identifiers_too() -> None:
    assert IdentifierScan(["7"]).named(b'{"user_id": 7}')
    assert not IdentifierScan(["7"]).named(b'{"user_id": 77}')
    assert not IdentifierScan(["7"]).named(b'{"quantity": 7}')


@pytest.mark.parametrize("written", [b'"\\u00e9-1"', '"é-1"'.encode()])
def test_json_may_escape_it(written: bytes) -> None:
    assert IdentifierScan(["é-1"]).named(b'{"id": ' + written + b"}")


def test_of_nobody_there_is_no_trace() -> None:
    assert not IdentifierScan([]).anywhere(b"anything")
    assert not IdentifierScan([""]).named(b'{"id": ""}')


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=100), st.text(max_size=10))
def test_in_an_avro_record_it_is_found_whatever_stands_beside_it(sought: str, beside: str) -> None:
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
def test_many_are_found_where_each_would_be(identifiers: list[str], content: str) -> None:
    """Held against an expression for each of their forms."""
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
