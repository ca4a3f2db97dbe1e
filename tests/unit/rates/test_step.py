"""Rates adds up usage per calendar period, evaluates quotas and finds peak rates."""

from typing import Any, get_args

import pytest

from weir.core.registry import Quota, Unit
from weir.rates.periods import ends_at, starts_at
from weir.rates.step import WINDOWS_KEPT, SourceUsage, UsageDelta, add_usage, evaluate_quotas

MINUTE = 60_000
NOON = 1_760_011_200_000  # 2025-10-09T12:00:00Z
MIDNIGHT = NOON - 12 * 60 * MINUTE
OCTOBER = 1_759_276_800_000  # 2025-10-01T00:00:00Z
NOVEMBER = 1_761_955_200_000


def delta(
    events: int,
    minute: int = NOON,
    outcome: str = "accepted",
    seconds: dict[int, int] | None = None,
) -> UsageDelta:
    return UsageDelta("shop", minute, outcome, events, events * 100, seconds or {})


def windows(
    usage: SourceUsage, outcome: str = "accepted"
) -> dict[tuple[str, int], tuple[int, int]]:
    return {
        (w.period, w.starts_at): (w.events, w.bytes) for w in usage.windows if w.outcome == outcome
    }


def test_periods_are_calendar_periods_in_utc() -> None:
    assert starts_at("minute", NOON + 59_999) == NOON
    assert starts_at("day", NOON) == MIDNIGHT
    assert (starts_at("month", NOON), ends_at("month", NOON)) == (OCTOBER, NOVEMBER)
    december = 1_767_225_599_999  # 2025-12-31T23:59:59.999Z
    assert ends_at("month", december) == ends_at("day", december) == december + 1


def test_deltas_add_up_in_every_period_by_outcome() -> None:
    usage = SourceUsage("shop")
    add_usage(usage, [delta(3), delta(4), delta(2, NOON + MINUTE), delta(5, outcome="duplicate")])
    assert windows(usage) == {
        ("minute", NOON): (7, 700),
        ("minute", NOON + MINUTE): (2, 200),
        ("hour", NOON): (9, 900),
        ("day", MIDNIGHT): (9, 900),
        ("month", OCTOBER): (9, 900),
    }
    assert windows(usage, "duplicate")[("day", MIDNIGHT)] == (5, 500)


def test_the_order_of_deltas_does_not_matter() -> None:
    deltas = [delta(1), delta(2, NOON + MINUTE), delta(4, NOON - MINUTE)]
    one, other = SourceUsage("shop"), SourceUsage("shop")
    for each in deltas:
        add_usage(one, [each])
    add_usage(other, deltas)
    assert windows(one)[("day", MIDNIGHT)] == windows(other)[("day", MIDNIGHT)] == (7, 700)


def test_state_keeps_only_the_latest_windows_of_each_period() -> None:
    usage = SourceUsage("shop")
    for minute in range(10):
        add_usage(usage, [delta(1, NOON + minute * MINUTE)])
    kept = sorted(start for period, start in windows(usage) if period == "minute")
    assert kept == [NOON + 8 * MINUTE, NOON + 9 * MINUTE]
    assert len(kept) == WINDOWS_KEPT
    assert windows(usage)[("hour", NOON)] == (10, 1000)


def test_a_quota_is_exceeded_at_its_limit_and_resets_when_its_period_ends() -> None:
    usage = SourceUsage("shop")
    quotas = [
        Quota(name="daily", period="day", limit=10),
        Quota(name="bytes", period="hour", unit="bytes", limit=10_000, action="mark"),
    ]
    add_usage(usage, [delta(9)])
    evaluate_quotas(usage, quotas)
    assert [(q.name, q.used, q.exceeded) for q in usage.quotas] == [
        ("daily", 9, False),
        ("bytes", 900, False),
    ]
    add_usage(usage, [delta(1)])
    evaluate_quotas(usage, quotas)
    daily = usage.quotas[0]
    assert (daily.exceeded, daily.resets_at, daily.action) == (
        True,
        MIDNIGHT + 86_400_000,
        "reject",
    )


@pytest.mark.parametrize("unit", get_args(Unit))
def test_each_quota_unit_counts_its_own_measure(unit: Unit) -> None:
    usage = SourceUsage("shop")
    add_usage(usage, [delta(9), delta(7, outcome="unique"), delta(2, outcome="duplicate")])
    evaluate_quotas(usage, [Quota(name="daily", period="day", unit=unit, limit=10)])
    assert usage.quotas[0].used == {"events": 9, "unique_events": 7, "bytes": 900}[unit]


def test_an_unknown_quota_unit_raises_an_error() -> None:
    usage = SourceUsage("shop")
    add_usage(usage, [delta(9)])
    people: Any = "people"
    with pytest.raises(AssertionError, match="people"):
        evaluate_quotas(usage, [Quota(name="daily", period="day", unit=people, limit=10)])


def test_quota_usage_restarts_in_a_new_period() -> None:
    usage = SourceUsage("shop")
    add_usage(usage, [delta(10), delta(1, NOON + 86_400_000)])
    evaluate_quotas(usage, [Quota(name="daily", period="day", limit=10)])
    assert (usage.quotas[0].used, usage.quotas[0].exceeded) == (1, False)


def test_only_accepted_events_count_towards_an_event_quota() -> None:
    usage = SourceUsage("shop")
    add_usage(usage, [delta(100, outcome="unique")])
    evaluate_quotas(usage, [Quota(name="daily", period="day", limit=10)])
    assert usage.quotas[0].used == 0


def test_the_peak_rate_is_the_busiest_second_over_all_deltas() -> None:
    usage = SourceUsage("shop")
    add_usage(usage, [delta(30, seconds={0: 10, 1: 20}), delta(15, seconds={1: 15})])
    add_usage(usage, [delta(5, NOON + 10 * MINUTE, seconds={0: 5})])
    assert (usage.peak_rate, usage.peak_at) == (35.0, NOON + 1000)
    assert usage.current_rate == 5.0
