"""Retention use: which records are unread, how near their deletion is, and which sources to refuse."""

import pytest

from weir.core.retention import (
    ALL,
    RetentionPolicy,
    RetentionUse,
    first_unread,
    heaviest,
    retention_ms,
    used,
)

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
def test_only_a_topic_that_deletes_by_age_has_a_retention_limit(
    config: dict[str, str], limit: int | None
) -> None:
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
def test_first_unread_is_the_committed_offset_or_the_first_existing_one(
    position: int, first: int, end: int, start: int
) -> None:
    assert first_unread(position, first, end) == start


def test_the_share_used_is_age_over_retention_and_0_for_young_records() -> None:
    now = 100 * HOUR_MS
    assert used(now - 8 * HOUR_MS, now, 10 * HOUR_MS) == pytest.approx(0.8)
    assert used(now - 15 * HOUR_MS, now, 10 * HOUR_MS) == pytest.approx(1.5)
    assert used(now - HOUR_MS // 4, now, 10 * HOUR_MS) == 0
    assert used(now + HOUR_MS, now, 10 * HOUR_MS) == 0  # a clock ahead


def test_retention_use_is_near_from_the_threshold_on_and_never_with_0() -> None:
    unread = RetentionUse("weir.dedup", "events.accepted", 0.8)
    assert unread.near(0.8)
    assert unread.near(0.5)
    assert not unread.near(0.81)
    assert not unread.near(0)
    assert not RetentionUse("weir.dedup", "events.accepted", 0).near(0)


@pytest.mark.parametrize(
    ("weights", "sources"),
    [
        ({"flood": 70, "a": 15, "b": 15}, ("flood",)),
        ({"flood": 51, "a": 25, "b": 24}, ("flood",)),
        ({"flood": 60, "a": 40}, ("a", "flood")),  # hardly less than the flood itself
        ({"a": 35, "b": 33, "c": 32}, ("a", "b", "c")),  # who is ahead is chance
        (
            {"big": 10, **{f"s{n:02}": 1 for n in range(30)}},
            None,
        ),  # no few make up the greater part
        ({"a": 1}, ("a",)),
        ({}, (ALL,)),
        ({"": 5}, (ALL,)),
        ({"": 60, "a": 40}, (ALL,)),
        ({"": 40, "a": 60}, (ALL,)),
        ({"": 10, "a": 90}, ("a",)),
    ],
)
def test_the_heaviest_sources_make_up_more_than_half_or_are_all_sources(
    weights: dict[str, float], sources: tuple[str, ...] | None
) -> None:
    found = heaviest(weights)
    assert found == (tuple(sorted(weights)) if sources is None else sources)
    assert ALL in found or sum(weights[source] for source in found) > sum(weights.values()) / 2


def test_refused_sources_depend_on_the_share_of_retention_used() -> None:
    def refused(share: float, whom: str = "source", refuse: float = 0.8) -> tuple[str, ...]:
        unread = RetentionUse("weir.dedup", "events.accepted", share, ("flood",))
        return RetentionPolicy(0.5, refuse, whom).refused(unread)

    assert refused(0.79) == refused(0.79, "all") == ()
    assert refused(0.8) == refused(0.89) == ("flood",)
    assert refused(0.9) == (ALL,)  # that did not help: nobody's events are safe now
    assert refused(0.8, "all") == (ALL,)
    assert refused(1.0, refuse=1.0) == (ALL,)
    assert refused(2.0, refuse=0) == ()
    assert RetentionPolicy(0.5, 0.8).refused(RetentionUse("g", "t", 0.8)) == (
        ALL,
    )  # whose they are is not known


def test_source_names_are_needed_only_when_refusing_by_source() -> None:
    assert RetentionPolicy(0.5, 0.8).named_from == 0.8
    assert RetentionPolicy(0.5, 0.8, "all").named_from == 0
    assert RetentionPolicy(0.5, 0).named_from == 0
    assert RetentionPolicy(0, 0.8).report_from == 0.8
