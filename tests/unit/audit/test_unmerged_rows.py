"""Unmerged duplicate account rows are subtracted from audit differences, and nothing else is."""

import pytest

from weir.audit.clickhouse_counts import CHECKS, UnbalancedEntry
from weir.audit.unmerged_rows import EFFECTS, without_copies
from weir.audit.unread_counts import SourceMinute

CELL: SourceMinute = ("shop", 1_767_268_800)


def entry(**short: int) -> UnbalancedEntry:
    return UnbalancedEntry(CELL, {c.column: short.get(c.column, 0) for c in CHECKS}, frozenset())


@pytest.mark.parametrize("account", EFFECTS)
def test_copies_of_an_account_row_explain_the_difference_they_cause(account: str) -> None:
    wrong = entry(**{column: 3 * effect for column, effect in EFFECTS[account].items()})
    assert without_copies([wrong], {CELL: {account: 3}}) == []


def test_a_difference_beyond_the_copies_remains() -> None:
    wrong = entry(short_of_unique=2, short_of_rows=1)
    (left,) = without_copies([wrong], {CELL: {"dedup_accepted": 1}})
    assert left == entry(short_of_unique=1, short_of_rows=1)


def test_copies_of_another_minute_do_not_explain_a_difference() -> None:
    wrong = entry(short_of_unique=2)
    assert without_copies([wrong], {("shop", 0): {"dedup_accepted": 2}}) == [wrong]


def test_a_mismatch_of_events_with_equal_counts_remains() -> None:
    wrong = entry()._replace(others=frozenset({"short_of_rows"}))
    assert without_copies([wrong], {}) == [wrong]
