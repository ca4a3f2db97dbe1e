"""What counts as unread, what a topic keeps, and how near is near."""

import pytest

from services.core.retention import Unread, first_unread, retention_ms, used

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"cleanup.policy": "delete", "retention.ms": "3600000"}, HOUR_MS),
        ({"retention.ms": "3600000"}, HOUR_MS),
        ({"cleanup.policy": "compact,delete", "retention.ms": "3600000"}, HOUR_MS),
        ({"cleanup.policy": "compact", "retention.ms": "3600000"}, None),
        ({"cleanup.policy": "delete", "retention.ms": "-1"}, None),
        ({}, None),
    ],
)
def test_only_what_age_deletes_has_a_limit(config: dict[str, str], limit: int | None) -> None:
    assert retention_ms(config) == limit


@pytest.mark.parametrize(
    ("position", "first", "end", "start"),
    [
        (-1, 0, 10, 0),  # never committed: everything is unread
        (-1, 4, 10, 4),
        (7, 0, 10, 7),
        (10, 0, 10, 10),
        (2, 4, 10, 4),  # two records were deleted before they were read
        (50, 0, 10, 0),  # the topic was made anew
    ],
)
def test_what_is_read_next(position: int, first: int, end: int, start: int) -> None:
    assert first_unread(position, first, end) == start


def test_the_share_is_age_over_retention_and_nothing_while_young() -> None:
    now = 100 * HOUR_MS
    assert used(now - 8 * HOUR_MS, now, 10 * HOUR_MS) == pytest.approx(0.8)
    assert used(now - 15 * HOUR_MS, now, 10 * HOUR_MS) == pytest.approx(1.5)
    assert used(now - HOUR_MS // 4, now, 10 * HOUR_MS) == 0
    assert used(now + HOUR_MS, now, 10 * HOUR_MS) == 0  # a clock ahead


def test_near_is_from_the_share_on_and_never_with_the_share_off() -> None:
    unread = Unread("weir.dedup", "events.accepted", 0.8)
    assert unread.near(0.8)
    assert unread.near(0.5)
    assert not unread.near(0.81)
    assert not unread.near(0)
    assert not Unread("weir.dedup", "events.accepted", 0).near(0)
