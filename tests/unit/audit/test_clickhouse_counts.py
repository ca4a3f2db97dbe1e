"""The audit reports every difference between the accounts, except for events still in flight."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from weir.audit.clickhouse_counts import CHECKS, AuditPage, AuditRange, UnbalancedEntry
from weir.audit.reconcile import explained, reconcile
from weir.audit.unread_counts import SourceMinute, UnreadCounts
from weir.core import topics

NOON = 1_767_268_800  # 2026-01-01T12:00:00Z
DEMO: SourceMinute = ("demo", NOON)


def entry(cell: SourceMinute = DEMO, others: str = "", **short: int) -> UnbalancedEntry:
    missing = {check.column: short.get(check.column, 0) for check in CHECKS}
    return UnbalancedEntry(cell, missing, frozenset([others] if others else []))


def unread(topic: str, *cells: SourceMinute) -> dict[str, UnreadCounts]:
    return {topic: UnreadCounts(len(cells), Counter(cells))}


def too_many(topic: str, records: int) -> dict[str, UnreadCounts]:
    return {topic: UnreadCounts(records, None)}


def findings_of(
    *entries: UnbalancedEntry, behind: dict[str, UnreadCounts] | None = None
) -> list[str]:
    return [finding.text for finding in reconcile(entries, behind or {}).findings]


@pytest.mark.parametrize(
    ("short", "text"),
    [
        ({"short_of_unique": 1}, "in dedup: 1 more accepted than unique, duplicate or dead, and"),
        ({"short_of_resolved": 2}, "between dedup and identity: 2 more unique than resolved,"),
        ({"short_of_rows": 3}, "between identity and ClickHouse: 3 more resolved than stored,"),
        ({"short_of_rows": -3}, "between identity and ClickHouse: 3 fewer resolved than stored,"),
        ({"short_of_duplicate_rows": 4}, "between dedup and ClickHouse: 4 more duplicate than"),
        ({"short_of_dead_rows": 5}, "between the workers and ClickHouse: 5 more dead than rows"),
    ],
)
def test_a_finding_names_the_stage_and_the_number_of_missing_events(
    short: dict[str, int], text: str
) -> None:
    (finding,) = findings_of(entry(DEMO, "", **short))
    assert finding.startswith(f"demo at 2026-01-01 12:00: {text}")


def test_a_long_source_name_is_truncated_in_a_finding() -> None:
    (finding,) = findings_of(entry(("x" * 300, NOON), short_of_rows=1))
    assert finding.startswith("x" * 47 + "… at 2026-01-01 12:00: ")


def test_minutes_of_a_source_form_one_finding_and_do_not_cancel_out() -> None:
    later = ("demo", NOON + 120)
    judged = reconcile([entry(short_of_rows=2), entry(later, short_of_rows=-2)], {})
    (finding,) = judged.findings
    assert finding.text.startswith("demo from 2026-01-01 12:00 to 2026-01-01 12:02: ")
    assert "2 more resolved" in finding.text
    assert "2 fewer resolved" in finding.text
    assert finding.events == 4


def test_findings_are_sorted_by_pipeline_stage() -> None:
    other = ("another", NOON)
    findings = findings_of(
        entry(short_of_dead_rows=1, short_of_rows=1), entry(other, short_of_unique=1)
    )
    places = [text.split(": ")[1] for text in findings]
    assert places == [
        "in dedup",
        "between identity and ClickHouse",
        "between the workers and ClickHouse",
    ]


def test_different_events_in_equal_number_are_a_finding() -> None:
    (finding,) = findings_of(entry(others="short_of_rows"))
    assert finding.endswith(
        "as many stored, erased or refused as resolved, but not the same events"
    )


@pytest.mark.parametrize("topic", [topics.UNIQUE, topics.RESOLVED, topics.USAGE, topics.DEAD])
def test_a_minute_with_unread_records_is_not_judged(topic: str) -> None:
    assert findings_of(entry(short_of_rows=1), behind=unread(topic, DEMO)) == []


@pytest.mark.parametrize("cell", [("other", NOON), ("demo", NOON + 60)])
def test_unread_records_of_another_source_or_minute_do_not_hide_a_finding(
    cell: SourceMinute,
) -> None:
    assert len(findings_of(entry(short_of_rows=1), behind=unread(topics.RESOLVED, cell))) == 1


def test_unread_accepted_events_do_not_hide_a_finding() -> None:
    assert len(findings_of(entry(short_of_rows=1), behind=unread(topics.ACCEPTED, DEMO))) == 1


def test_a_backlog_explains_at_most_as_many_events_as_it_holds() -> None:
    missing = [entry(("demo", NOON + 60 * n), short_of_resolved=10) for n in range(10)]
    assert findings_of(*missing, behind=too_many(topics.UNIQUE, 100)) == []
    (finding,) = findings_of(*missing, behind=too_many(topics.UNIQUE, 97))
    assert finding.startswith("between dedup and identity: 100 more unique than resolved")
    assert finding.endswith("but only 97 records are unread")


def test_a_backlog_of_a_topic_explains_no_other_stage_and_no_surplus() -> None:
    behind = too_many(topics.UNIQUE, 100)
    assert len(findings_of(entry(short_of_rows=1), behind=behind)) == 1
    assert len(findings_of(entry(short_of_resolved=-1), behind=behind)) == 1


def test_no_minute_is_judged_while_too_many_usage_records_are_unread() -> None:
    judged = reconcile([entry(short_of_rows=1)], too_many(topics.USAGE, 12_345))
    assert (judged.findings, judged.blind) == ([], "12,345 records of usage are unread")


def test_a_page_shows_lost_events_as_difference_and_the_rest_as_in_flight() -> None:
    lost, waiting = entry(short_of_rows=2), entry(("demo", NOON + 60), short_of_resolved=3)
    judged = reconcile([lost, waiting], unread(topics.UNIQUE, waiting.cell))
    whole = AuditPage("demo", accepted=10, stored=5, in_flight=5)
    first, second = (AuditPage("demo", f"2026-01-01 12:0{n}:00", in_flight=5 - n) for n in (0, 1))
    shown = [(p.in_flight, p.difference) for p in explained([whole, first, second], judged)]
    assert shown == [(3, 2), (3, 2), (4, 0)]


def test_stored_events_missing_from_identitys_account_are_a_remark_not_a_finding() -> None:
    known = entry(short_of_resolved=4, short_of_rows=-4, short_of_dead_rows=1)
    judged = reconcile([known._replace(passed_by=4)], too_many(topics.UNIQUE, 2))
    (finding,) = judged.findings
    assert "between the workers and ClickHouse" in finding.text
    (remark,) = judged.remarks
    assert remark.startswith("demo at 2026-01-01 12:00: 4 stored events")
    (page,) = explained(
        [AuditPage("demo", accepted=4, stored=4, in_flight=4, difference=-4)], judged
    )
    assert (page.in_flight, page.difference) == (0, 0)
    judged = reconcile([known._replace(passed_by=4)], unread(topics.RESOLVED, DEMO))
    assert judged.remarks == []


def test_a_surplus_row_is_a_negative_difference() -> None:
    judged = reconcile([entry(short_of_rows=-1)], {})
    (page,) = explained([AuditPage("demo", accepted=1, stored=2, difference=-1)], judged)
    assert (page.in_flight, page.difference) == (0, -1)


def test_an_audit_range_passes_its_values_only_as_query_parameters() -> None:
    whole = AuditRange()
    assert (whole.where("minute"), whole.parameters()) == ("1", {})
    start = datetime(2026, 1, 1, tzinfo=UTC)
    part = replace(whole, start=start, end=datetime(2026, 1, 2, tzinfo=UTC), source="o'demo")
    assert part.where("minute") == (
        "1 AND minute >= toDateTime({start:Int64}, 'UTC')"
        " AND minute < toDateTime({end:Int64}, 'UTC') AND source = {source:String}"
    )
    assert part.parameters() == {"start": 1_767_225_600, "end": 1_767_312_000, "source": "o'demo"}
