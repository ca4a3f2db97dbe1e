"""A record that one stage accepts fits every later topic, whatever limits the cluster's topics have."""

import pytest

from weir.core import topics
from weir.core.record_limits import (
    ADDED_BYTES,
    EVENT_BYTES,
    FRAME_BYTES,
    MAX_TOPIC_BYTES,
    RECORD_BYTES,
    RecordLimits,
    topic_bytes,
)

KAFKAS_OWN = 1_048_588  # max.message.bytes of a topic that nobody has configured


def test_the_largest_accepted_event_fits_the_topic_of_every_later_stage() -> None:
    limits = RecordLimits()
    assert limits.event == EVENT_BYTES
    for topic in (topics.UNIQUE, topics.RESOLVED):
        assert limits.event + ADDED_BYTES <= limits.of(topic)


def test_a_dead_letter_has_room_for_any_whole_record() -> None:
    limits = RecordLimits()
    for topic in (topics.ACCEPTED, topics.UNIQUE, topics.REJECTED, topics.PROFILES, topics.USAGE):
        assert limits.of(topic) == RECORD_BYTES
        assert limits.of(topic) + ADDED_BYTES <= limits.of(topics.DEAD)
    assert topic_bytes(topics.DEAD) == MAX_TOPIC_BYTES


@pytest.mark.parametrize("topic", [topics.UNIQUE, topics.RESOLVED, topics.DEAD, topics.ACCEPTED])
def test_a_topic_with_a_lower_limit_lowers_the_event_limit(topic: str) -> None:
    limits = RecordLimits({topic: KAFKAS_OWN})
    assert limits.of(topic) == KAFKAS_OWN - FRAME_BYTES
    assert limits.event <= limits.of(topic)
    assert limits.batch == 1_000_000
    assert [low.topic for low in limits.low()] == [topic]
    if limits.event < EVENT_BYTES:
        assert topic in limits.explain_event(2_000_000)
        assert f"{KAFKAS_OWN:,}" in limits.explain_event(2_000_000)


def test_the_batch_limit_is_at_most_the_smallest_topic_limit() -> None:
    assert RecordLimits({topics.UNIQUE: 100_000, topics.DEAD: 1_000_000}).batch == 100_000


def test_a_topic_with_a_higher_limit_changes_no_record_limit() -> None:
    limits = RecordLimits({topics.ACCEPTED: 100_000_000})
    assert limits.of(topics.ACCEPTED) == RECORD_BYTES
    assert not limits.low()


def test_record_limits_with_equal_topic_limits_are_equal() -> None:
    assert RecordLimits({topics.DEAD: 1}) == RecordLimits({topics.DEAD: 1})
    assert RecordLimits({topics.DEAD: 1}) != RecordLimits()
