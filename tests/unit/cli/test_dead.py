"""`weir dead` reads ages and times for --since and shows values as fields or as a hex dump."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from weir.adapters.avro import schemas
from weir.cli.base import WrongInputError
from weir.cli.letter_filters import time_of
from weir.cli.letter_view import HEX_BYTES, hex_lines, value_lines

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
EVENT_ID = uuid.UUID("0199c3a0-0000-7000-8000-000000000001")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("24 h", NOW - timedelta(hours=24)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-01-30", datetime(2026, 1, 30, tzinfo=UTC)),
        ("2026-01-30T10:00+02:00", datetime(2026, 1, 30, 8, tzinfo=UTC)),
    ],
)
def test_since_takes_an_age_or_a_time(text: str, expected: datetime) -> None:
    assert time_of(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "5 weeks", "-1h"])
def test_since_rejects_anything_but_an_age_or_a_time(text: str) -> None:
    with pytest.raises(WrongInputError, match="neither an age"):
        time_of(text, NOW)


@pytest.mark.parametrize("text", ["99999999999d", "9" * 5_000 + "d"])
def test_an_age_before_the_calendar_is_rejected(text: str) -> None:
    with pytest.raises(WrongInputError, match="before the calendar"):
        time_of(text, NOW)


def duplicate() -> bytes:
    return schemas()["Duplicate"].encode(
        {
            **dict.fromkeys(schemas()["Duplicate"].fields, ""),
            "event_id": EVENT_ID.bytes,
            "first_event_id": EVENT_ID.bytes,
            "same_payload": True,
            "received_at": 1,
            "first_received_at": 1,
        }
    )


def test_a_record_of_a_weir_schema_is_shown_by_its_fields() -> None:
    lines = value_lines(duplicate())
    assert lines[0].startswith("Duplicate, ")
    assert f'  "event_id": "{EVENT_ID}",' in lines


def test_a_truncated_record_is_shown_as_a_hex_dump() -> None:
    lines = value_lines(duplicate()[:20])
    assert lines[0].startswith("20 bytes, truncated or damaged")
    assert lines[1].startswith("000000  c3 01 ")


def test_a_value_without_a_weir_schema_is_shown_as_a_hex_dump() -> None:
    lines = value_lines(b"hello\x00world")
    assert lines[0].startswith("11 bytes, not decoded: no schema of Weir")
    assert lines[1].endswith("hello.world")


def test_the_hex_dump_of_a_long_value_is_truncated() -> None:
    assert hex_lines(b"x" * (HEX_BYTES + 1_000))[-1] == "... 1,000 more bytes"
