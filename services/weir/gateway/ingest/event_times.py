"""When an event occurred, as clients say it in numbers. Pure."""

from datetime import UTC, datetime, timedelta

AHEAD_MS = 3_600_000
# ClickHouse's DateTime64 begins in 1900: an earlier time could not be stored as what it is.
EARLIEST_MS = -2_208_988_800_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
# A number below this is seconds: as seconds it is a time before the year 5138, as milliseconds it
# would be one before March 1973. Libraries of many languages give seconds.
SECONDS_BELOW = 100_000_000_000


def epoch_ms(number: int | float) -> int:
    """Return epoch milliseconds of a number of seconds or milliseconds, told apart by its size."""
    if -SECONDS_BELOW < number < SECONDS_BELOW:
        return round(number * 1_000)
    return int(number)


def unmistakable(ms: int) -> int | datetime:
    """Return epoch milliseconds so that nobody takes them for seconds: early ones as a datetime."""
    return EPOCH + ms * MILLISECOND if -SECONDS_BELOW < ms < SECONDS_BELOW else ms
