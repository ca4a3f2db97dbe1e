"""Calendar periods in UTC, in epoch milliseconds. Pure."""

from datetime import UTC, datetime

from weir.core.registry import Period

PERIODS: tuple[Period, ...] = ("minute", "hour", "day", "month")
LENGTH_MS: dict[Period, int] = {"minute": 60_000, "hour": 3_600_000, "day": 86_400_000}


def starts_at(period: Period, at: int) -> int:
    """Return the start of the period that contains `at`."""
    if period != "month":
        return at - at % LENGTH_MS[period]
    first = datetime.fromtimestamp(at / 1000, UTC).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    return int(first.timestamp() * 1000)


def ends_at(period: Period, at: int) -> int:
    """Return the exclusive end of the period that contains `at`."""
    start = starts_at(period, at)
    if period != "month":
        return start + LENGTH_MS[period]
    return starts_at("month", start + 32 * LENGTH_MS["day"])
