"""What stands twice is taken out of what the books lack, and nothing else is."""

import pytest

from weir.audit.clickhouse_counts import CHECKS, UnbalancedEntry
from weir.audit.unmerged_rows import EFFECTS, without_copies
from weir.audit.unread_counts import SourceMinute

CELL: SourceMinute = ("shop", 1_767_268_800)


def entry(**short: int) -> UnbalancedEntry:
    return UnbalancedEntry(CELL, {c.column: short.get(c.column, 0) for c in CHECKS}, frozenset())


@pytest.mark.parametrize("account", EFFECTS)
def test_an_account_that_stands_twice_explains_what_it_has_made_wrong(account: str) -> None:
    wrong = entry(**{column: 3 * effect for column, effect in EFFECTS[account].items()})
    assert without_copies([wrong], {CELL: {account: 3}}) == []


def test_what_copies_do_not_explain_stays() -> None:
    wrong = entry(short_of_unique=2, short_of_rows=1)
    (left,) = without_copies([wrong], {CELL: {"dedup_accepted": 1}})
    assert left == entry(short_of_unique=1, short_of_rows=1)


def test_copies_of_another_minute_explain_nothing() -> None:
    wrong = entry(short_of_unique=2)
    assert without_copies([wrong], {("shop", 0): {"dedup_accepted": 2}}) == [wrong]


def test_the_wrong_events_in_the_right_number_stay_wrong() -> None:
    wrong = entry()._replace(others=frozenset({"short_of_rows"}))
    assert without_copies([wrong], {}) == [wrong]
