"""Add up the usage that the stages counted, and check it against each source's quotas. Pure functions."""

from collections.abc import Sequence
from typing import assert_never

import msgspec

from weir.core.registry import Period, Quota, QuotaAction, Unit
from weir.rates.periods import PERIODS, ends_at, starts_at

COUNTED = "accepted"  # the outcome that counts for rates, and for quotas of events and bytes
UNIQUE = "unique"  # the outcome that counts for quotas of unique events: repeats are free
WINDOWS_KEPT = 2  # per period: the current window and, for late deltas, the previous one
SECONDS_KEPT = 120


class UsageDelta(msgspec.Struct):
    """One stage's counts for one source, minute and outcome. `seconds`: events by second of the minute."""

    source: str
    minute: int  # epoch milliseconds
    outcome: str
    events: int
    bytes: int
    seconds: dict[int, int]


class UsagePeriod(msgspec.Struct):
    period: Period
    starts_at: int
    outcome: str
    events: int = 0
    bytes: int = 0


class QuotaUse(msgspec.Struct):
    name: str
    period: Period
    unit: Unit
    limit: int
    used: int
    action: QuotaAction
    exceeded: bool
    resets_at: int


class SourceUsage(msgspec.Struct):
    """The usage and quota state of one source: the state of rates, and the record that gateways tail."""

    source: str
    updated_at: int = 0  # latest minute counted, epoch milliseconds
    windows: list[UsagePeriod] = []
    quotas: list[QuotaUse] = []
    current_rate: float = 0.0
    peak_rate: float = 0.0
    peak_at: int = 0
    recent_seconds: dict[int, int] = {}  # epoch second -> accepted events


def add_usage(usage: SourceUsage, deltas: Sequence[UsageDelta]) -> None:
    """Add deltas, in any order and of any minute. Totals are exact for every window that is still kept."""
    for delta in deltas:
        usage.updated_at = max(usage.updated_at, delta.minute)
        for period in PERIODS:
            _add(usage, period, delta)
        if delta.outcome == COUNTED:
            _add_seconds(usage, delta)
    _forget(usage)


def evaluate_quotas(usage: SourceUsage, quotas: Sequence[Quota]) -> None:
    """Set the use of each quota in the latest period counted; it is exceeded if `used >= limit`."""
    usage.quotas = []
    for quota in quotas:
        used = _used(usage, quota, starts_at(quota.period, usage.updated_at))
        usage.quotas.append(
            QuotaUse(
                quota.name,
                quota.period,
                quota.unit,
                quota.limit,
                used,
                quota.action,
                used >= quota.limit,
                ends_at(quota.period, usage.updated_at),
            )
        )


def _used(usage: SourceUsage, quota: Quota, start: int) -> int:
    """Return how much of a quota's unit the period from `start` has counted. An unknown unit fails."""
    outcome = UNIQUE if quota.unit == "unique_events" else COUNTED
    window = _window(usage, quota.period, start, outcome)
    if window is None:
        return 0
    match quota.unit:
        case "events" | "unique_events":
            return window.events
        case "bytes":
            return window.bytes
    assert_never(quota.unit)


def _add(usage: SourceUsage, period: Period, delta: UsageDelta) -> None:
    start = starts_at(period, delta.minute)
    window = _window(usage, period, start, delta.outcome)
    if window is None:
        window = UsagePeriod(period, start, delta.outcome)
        usage.windows.append(window)
    window.events += delta.events
    window.bytes += delta.bytes


def _window(usage: SourceUsage, period: Period, start: int, outcome: str) -> UsagePeriod | None:
    for window in usage.windows:
        if window.starts_at == start and window.period == period and window.outcome == outcome:
            return window
    return None


def _add_seconds(usage: SourceUsage, delta: UsageDelta) -> None:
    for offset, events in delta.seconds.items():
        second = delta.minute // 1000 + offset
        total = usage.recent_seconds.get(second, 0) + events
        usage.recent_seconds[second] = total
        if total > usage.peak_rate:
            usage.peak_rate = float(total)
            usage.peak_at = second * 1000


def _forget(usage: SourceUsage) -> None:
    """Drop all but the latest windows of each period and the latest seconds, and set the current rate."""
    kept = {
        period: sorted({w.starts_at for w in usage.windows if w.period == period})[-WINDOWS_KEPT:]
        for period in PERIODS
    }
    usage.windows = [w for w in usage.windows if w.starts_at in kept[w.period]]
    if not usage.recent_seconds:
        return
    latest = max(usage.recent_seconds)
    usage.recent_seconds = {
        second: events
        for second, events in usage.recent_seconds.items()
        if second > latest - SECONDS_KEPT
    }
    lately = [n for second, n in usage.recent_seconds.items() if second > latest - 10]
    # average over the ten seconds up to the latest event: a whole minute would hide a burst
    usage.current_rate = sum(lately) / min(10, latest - min(usage.recent_seconds) + 1)
