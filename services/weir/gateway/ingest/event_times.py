"""Convert the numeric event times that clients send. Pure."""

from datetime import UTC, datetime, timedelta

AHEAD_MS = 3_600_000
# ClickHouse's DateTime64 starts in 1900: an earlier time could not be stored unchanged.
EARLIEST_MS = -2_208_988_800_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
# A number below this is seconds: as seconds it is a time before the year 5138; as milliseconds it
# would be before March 1973. Libraries of many languages use seconds.
SECONDS_BELOW = 100_000_000_000


def epoch_ms(number: int | float) -> int:
    """Return epoch milliseconds for a number of seconds or milliseconds; its size decides which it is."""
    if -SECONDS_BELOW < number < SECONDS_BELOW:
        return round(number * 1_000)
    return int(number)


def unmistakable(ms: int) -> int | datetime:
    """Return epoch milliseconds, but early times as a datetime, so that they are not mistaken for seconds."""
    return EPOCH + ms * MILLISECOND if -SECONDS_BELOW < ms < SECONDS_BELOW else ms
