"""The status of an event is decided from ClickHouse rows and topic records together."""

from typing import Any

import pytest

from weir.core import topics
from weir.event_status.model import ORDER, EventRows, TopicEvidence, TopicRecord, decide, json_time

ID = "01a1fe2b-ec6c-74db-8b0f-3e2c2e8d5530"
OTHER = "01a1fe2b-ec70-7424-ba48-8b9816861935"
NOON = 1_769_860_800_000
AWAY = "ClickHouse does not answer."
EVENT: dict[str, Any] = {
    "source": "shop",
    "event": "hello",
    "user_id": "ada",
    "received_at": NOON,
    "occurred_at": NOON - 5,
    "saved": True,
}
STORED = EVENT | {"event_id": ID, "profile_id": "p", "session_id": "s", "inserted_at": NOON + 500}
DUPLICATE = {
    "event_id": ID,
    "first_event_id": OTHER,
    "source": "shop",
    "idempotency_key": "k",
    "same_payload": True,
    "received_at": NOON,
    "first_received_at": NOON - 9,
}
REJECTED = {
    "event_id": ID,
    "source": "shop",
    "code": "wrong_type",
    "field": "value",
    "detail": "must be a finite number",
    "client_id": "k",
    "door": "events",
    "received_at": NOON,
}
DEAD = {
    "event_id": ID,
    "source": "shop",
    "step": "identity",
    "reason": "unreadable",
    "detail": "cut short",
    "origin_topic": "events.unique",
    "origin_partition": 3,
    "origin_offset": 14,
    "received_at": NOON,
    "died_at": NOON + 7,
}
ACCEPTED = TopicRecord(topics.ACCEPTED, NOON + 1, waiting=False)
UNIQUE = TopicRecord(topics.UNIQUE, NOON + 2, waiting=False)
RESOLVED = TopicRecord(topics.RESOLVED, NOON + 3, waiting=False)


def trail(*seen: TopicRecord, **more: Any) -> TopicEvidence:
    return TopicEvidence(ID, more.pop("event", EVENT), seen, **more)


def waits(at: TopicRecord) -> TopicRecord:
    return TopicRecord(at.topic, at.at, waiting=True)


@pytest.mark.parametrize(
    ("seen", "stage"),
    [
        ([waits(ACCEPTED)], "dedup"),
        ([ACCEPTED, waits(UNIQUE)], "identity"),
        ([ACCEPTED, UNIQUE, waits(RESOLVED)], "sink"),
    ],
)
@pytest.mark.parametrize("rows", [EventRows(), AWAY])
def test_an_event_is_queued_at_the_stage_that_has_not_read_it_yet(
    seen: list[TopicRecord], stage: str, rows: EventRows | str
) -> None:
    status = decide(ID, rows, trail(*seen))
    assert (status.fate, status.stage, status.since) == ("queued", stage, json_time(seen[-1].at))
    assert list(status.times) == [
        "occurred_at", "received_at", "accepted_at", "deduplicated_at", "resolved_at",
    ][: 2 + len(seen)]  # fmt: skip


def test_a_stored_event_has_its_facts_and_the_times_of_every_stage() -> None:
    status = decide(ID, EventRows(stored=[STORED]), trail(ACCEPTED, UNIQUE, waits(RESOLVED)))
    assert (status.fate, status.event_id, status.source, status.stage) == (
        "stored",
        ID,
        "shop",
        None,
    )
    assert status.facts == {
        "event": "hello", "profile_id": "p", "session_id": "s", "user_id": "ada",
    }  # fmt: skip
    assert status.since == status.times["inserted_at"] == "2026-01-31T12:00:00.500Z"
    assert list(status.times) == [
        "occurred_at", "received_at", "accepted_at", "deduplicated_at", "resolved_at",
        "inserted_at",
    ]  # fmt: skip


def test_an_event_read_by_the_sink_is_stored_while_clickhouse_is_unavailable() -> None:
    status = decide(ID, AWAY, trail(ACCEPTED, UNIQUE, RESOLVED))
    assert status.fate == "stored"
    assert AWAY in status.notes[0]
    assert status.since is None


def test_an_accepted_event_found_nowhere_is_unknown_and_not_certain() -> None:
    status = decide(ID, EventRows(), trail(ACCEPTED, UNIQUE, RESOLVED))
    assert (status.fate, status.event_id, status.certain) == ("unknown", ID, False)
    assert "weir audit" in status.advice


@pytest.mark.parametrize("same", [True, False])
def test_a_duplicate_names_the_first_event_and_whether_payloads_are_equal(same: bool) -> None:
    row = DUPLICATE | {"same_payload": same}
    status = decide(ID, EventRows(duplicates=[row]), trail(ACCEPTED, duplicate=row))
    assert (status.fate, status.facts["first_event_id"]) == ("duplicate", OTHER)
    assert status.facts["same_payload"] is same
    assert ("another payload" in status.advice) is not same
    assert decide(ID, AWAY, trail(ACCEPTED, duplicate=row)).facts == status.facts


def test_a_rejected_event_states_the_reason_and_the_field_to_correct() -> None:
    for status in (
        decide("k", EventRows(rejected=[REJECTED]), TopicEvidence()),
        decide("k", AWAY, trail(rejected=REJECTED)),
    ):
        assert (status.fate, status.event_id) == ("rejected", ID)
        assert (status.facts["reason"], status.facts["field"]) == ("wrong_type", "value")
        assert "correct `value`" in status.advice


def test_a_dead_event_names_the_step_and_the_command_that_shows_its_bytes() -> None:
    for status in (
        decide(ID, EventRows(dead=[DEAD]), trail(ACCEPTED, UNIQUE)),
        decide(ID, AWAY, trail(ACCEPTED, UNIQUE, dead=DEAD)),
    ):
        assert (status.fate, status.facts["step"]) == ("dead", "identity")
        assert "weir dead show events.unique/3/14" in status.advice


def test_an_event_sent_as_not_to_be_saved_is_unsaved() -> None:
    status = decide(ID, EventRows(), trail(ACCEPTED, UNIQUE, event=EVENT | {"saved": False}))
    assert (status.fate, status.source) == ("unsaved", "shop")
    lost = decide(ID, EventRows(), trail(ACCEPTED, UNIQUE))
    assert lost.fate == "unknown"


def test_the_stored_event_of_a_key_wins_and_the_other_events_are_named() -> None:
    repeat = DUPLICATE | {"event_id": OTHER}
    rows = EventRows(stored=[STORED], duplicates=[repeat], rejected=[REJECTED])
    status = decide("k", rows, TopicEvidence())
    assert (status.fate, status.event_id) == ("stored", ID)
    assert status.notes == (f"Other events with this id: {OTHER}.",)


def test_a_queued_event_wins_over_its_earlier_rejection() -> None:
    assert decide("k", EventRows(rejected=[REJECTED]), trail(waits(ACCEPTED))).fate == "queued"


def test_an_unknown_event_is_certain_only_if_every_place_was_searched() -> None:
    assert decide(ID, EventRows(), TopicEvidence()).certain
    for rows, found in (
        (AWAY, TopicEvidence()),
        (EventRows(), "Kafka does not answer."),
        (AWAY, "Kafka does not answer."),
        (EventRows(), TopicEvidence(bounds=("Only the latest records were read.",))),
    ):
        status = decide(ID, rows, found)
        assert (status.fate, status.event_id, status.certain) == ("unknown", None, False)
        assert "Not known" in status.advice
        assert status.notes


def test_the_order_lists_six_different_fates() -> None:
    assert len(set(ORDER)) == len(ORDER) == 6
