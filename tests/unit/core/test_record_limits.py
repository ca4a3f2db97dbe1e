"""Record limits: each fits into the next one, whatever the topics of the cluster allow."""

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


def test_an_accepted_event_can_be_written_by_every_later_stage() -> None:
    limits = RecordLimits()
    assert limits.event == EVENT_BYTES
    for topic in (topics.UNIQUE, topics.RESOLVED):
        assert limits.event + ADDED_BYTES <= limits.of(topic)


def test_a_dead_letter_holds_any_record_whole() -> None:
    limits = RecordLimits()
    for topic in (topics.ACCEPTED, topics.UNIQUE, topics.REJECTED, topics.PROFILES, topics.USAGE):
        assert limits.of(topic) == RECORD_BYTES
        assert limits.of(topic) + ADDED_BYTES <= limits.of(topics.DEAD)
    assert topic_bytes(topics.DEAD) == MAX_TOPIC_BYTES


@pytest.mark.parametrize("topic", [topics.UNIQUE, topics.RESOLVED, topics.DEAD, topics.ACCEPTED])
def test_a_topic_that_allows_less_lowers_what_an_event_may_have(topic: str) -> None:
    limits = RecordLimits({topic: KAFKAS_OWN})
    assert limits.of(topic) == KAFKAS_OWN - FRAME_BYTES
    assert limits.event <= limits.of(topic)
    assert limits.batch == 1_000_000
    assert [low.topic for low in limits.low()] == [topic]
    if limits.event < EVENT_BYTES:
        assert topic in limits.explain_event(2_000_000)
        assert f"{KAFKAS_OWN:,}" in limits.explain_event(2_000_000)


def test_a_batch_is_never_larger_than_what_the_smallest_topic_allows() -> None:
    assert RecordLimits({topics.UNIQUE: 100_000, topics.DEAD: 1_000_000}).batch == 100_000


def test_a_topic_that_allows_more_changes_nothing() -> None:
    limits = RecordLimits({topics.ACCEPTED: 100_000_000})
    assert limits.of(topics.ACCEPTED) == RECORD_BYTES
    assert not limits.low()


def test_limits_are_equal_when_the_topics_allow_the_same() -> None:
    assert RecordLimits({topics.DEAD: 1}) == RecordLimits({topics.DEAD: 1})
    assert RecordLimits({topics.DEAD: 1}) != RecordLimits()
