"""The books judged: every way in which they may not balance is told."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from services.commands.books import Counts, Page, Range, findings

PAGE = Page("demo", 100, 80, 15, 3, 2, 0)
COUNTS = Counts(
    source="demo",
    rows=80,
    ids=80,
    duplicate_rows=15,
    dead_rows=2,
    sink_dead_rows=1,
    unique=84,
    duplicate=15,
    resolved=81,
    unsaved=2,
    dedup_dead=1,
    identity_dead=1,
    accepted=100,
)


def test_balanced_books_have_no_findings() -> None:
    assert findings([PAGE], [COUNTS]) == []


def test_a_lost_event_is_told_with_its_minute() -> None:
    page = msgspec.structs.replace(PAGE, difference=1, minute="2026-01-01 00:00:00")
    assert findings([page], []) == [
        "demo at 2026-01-01 00:00:00: more was accepted than is accounted for, by 1"
    ]


def test_an_event_too_many_is_told() -> None:
    page = msgspec.structs.replace(PAGE, source="", difference=-2)
    assert findings([page], []) == [
        "(source unreadable): less was accepted than is accounted for, by 2"
    ]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"ids": 79}, ["80 rows in events but 79 distinct event ids"]),
        ({"accepted": 101}, ["101 accepted but 100 unique, duplicate or dead"]),
        ({"identity_dead": 0, "dead_rows": 1}, ["84 unique but 83 resolved, unsaved or dead"]),
        ({"rows": 79, "ids": 79}, ["81 resolved but 80 stored or refused by ClickHouse"]),
        ({"duplicate_rows": 14}, ["15 duplicate but 14 rows in duplicates"]),
        ({"dead_rows": 3}, ["2 dead but 3 rows in dead"]),
    ],
)
def test_rows_that_do_not_fit_the_accounts_are_told(
    changed: dict[str, Any], told: list[str]
) -> None:
    counts = msgspec.structs.replace(COUNTS, **changed)
    assert findings([], [counts]) == [f"demo: {line}" for line in told]


def test_a_range_asks_with_parameters_alone() -> None:
    whole = Range()
    assert (whole.where("minute"), whole.parameters()) == ("1", {})
    start = datetime(2026, 1, 1, tzinfo=UTC)
    part = replace(whole, start=start, end=datetime(2026, 1, 2, tzinfo=UTC), source="o'demo")
    assert part.where("minute") == (
        "1 AND minute >= toDateTime({start:Int64}, 'UTC')"
        " AND minute < toDateTime({end:Int64}, 'UTC') AND source = {source:String}"
    )
    assert part.parameters() == {"start": 1_767_225_600, "end": 1_767_312_000, "source": "o'demo"}
