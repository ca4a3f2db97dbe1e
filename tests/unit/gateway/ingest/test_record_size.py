"""The size limit applies to the whole record: a too large event is rejected alone and stored whole."""

import itertools
import json
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from weir.adapters import avro
from weir.core import topics
from weir.core.identifiers import dedup_prefix
from weir.core.record_limits import EVENT_BYTES, RecordLimits
from weir.core.registry import Source
from weir.gateway.doors.door import Door
from weir.gateway.doors.events import door as events_door
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import (
    DIGEST_BYTES,
    RecordContext,
    RequestRecords,
    build_records,
    refuse_unwritable,
)
from weir.gateway.ingest.parsed_events import BodyLimits, ParsedEvents
from weir.gateway.routes import DOORS, ROUTES, Router

SOURCE = Source(id="shop")
LIMITS = BodyLimits(events=2_000, body_bytes=2 * 1024 * 1024)
HUGE = "y" * EVENT_BYTES
SMALL = {"event": "page_view", "id": "small"}

BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "events": ("/v1/events", {"events": [{"event": "a", "id": "large"}], "context": {"b": HUGE}}),
    "segment": (
        "/v1/batch",
        {
            "batch": [{"type": "track", "event": "a", "messageId": "m", "userId": "u"}],
            "context": {"b": HUGE},
        },
    ),
    "tracardi": (
        "/track",
        {
            "source": {"id": "shop"},
            "session": {"id": "s"},
            "events": [{"type": "a"}],
            "context": {"b": HUGE},
        },
    ),
}


def parsed(path: str, body: dict[str, Any]) -> ParsedEvents:
    found = Router(ROUTES).find(path)
    assert found is not None
    headers = CIMultiDictProxy(CIMultiDict({"Content-Type": "application/json"}))
    request_meta = RequestMeta("POST", path, "", found.parts, headers, "", 0)
    door = found.methods["POST"]
    assert isinstance(door, Door)
    return door.parse(request_meta, json.dumps(body).encode(), LIMITS)


def taken(
    events: ParsedEvents, agent: str = "", limits: RecordLimits | None = None
) -> RequestRecords:
    return build_records(events, SOURCE, record_context(agent, limits or RecordLimits()))


def record_context(agent: str, limits: RecordLimits) -> RecordContext:
    client, client_id = Client("events", "", agent), events_door.DOOR.client_id
    return RecordContext(SourceFields.of(SOURCE), 0, client, client_id=client_id, limits=limits)


@pytest.mark.parametrize("door", BODIES)
def test_an_event_too_large_with_its_context_is_rejected_and_stored_whole(door: str) -> None:
    path, body = BODIES[door]
    records = taken(parsed(path, body))
    assert not records.event_ids
    ((topic, _, value),) = records.records
    assert topic == topics.REJECTED
    (refused,) = records.refused
    assert refused.refusal.code == "too_large"
    assert f"at most {EVENT_BYTES:,}" in refused.refusal.text
    _, record = avro.decode_any(value or b"")
    assert HUGE.encode() in record["payload"]
    if door != "tracardi":  # whose payloads cannot be read by themselves
        again = DOORS[door].parse_again(record["payload"], 0)
        assert isinstance(again, ParsedEvents)
        assert taken(again).refused[0].refusal == refused.refusal


def test_neighbours_of_a_too_large_event_are_accepted() -> None:
    body = {"events": [SMALL, {"event": "a", "properties": {"p": "x" * 90_000}}, SMALL]}
    body["context"] = {"b": "y" * (EVENT_BYTES - 50_000)}  # type: ignore[assignment]
    records = taken(parsed("/v1/events", body))
    assert len(records.event_ids) == 2
    assert [one.index for one in records.refused] == [1]
    assert [topic for topic, _, _ in records.records] == [
        "events.accepted",
        "events.rejected",
        "events.accepted",
    ]


def test_the_largest_accepted_record_has_exactly_the_limit() -> None:
    """The largest accepted record has exactly the limit's size; it includes the user agent."""
    key_bytes = len(dedup_prefix("shop")) + DIGEST_BYTES
    sizes = {}
    for more in itertools.count():
        body = {"events": [SMALL], "context": {"b": "y" * (EVENT_BYTES - 330 + more)}}
        records = taken(parsed("/v1/events", body), agent="curl/8" * 10)
        sizes[more] = [
            len(value or b"") + key_bytes
            for topic, _, value in records.records
            if topic == topics.ACCEPTED
        ]
        if records.refused:
            break
    assert sizes[more - 1] == [EVENT_BYTES]


def test_the_refusal_names_a_topic_with_a_lower_record_limit() -> None:
    limits = RecordLimits({topics.UNIQUE: 200_000})
    records = taken(
        parsed("/v1/events", {"events": [SMALL], "context": {"b": "y" * 200_000}}), "", limits
    )
    assert "events.unique allows only 200,000" in records.refused[0].refusal.text


def test_a_rejected_payload_too_large_for_its_record_is_truncated_with_a_note() -> None:
    limits = RecordLimits({topics.REJECTED: 100_000})
    records = taken(parsed(*BODIES["events"]), "", limits)
    ((topic, key, value),) = records.records
    assert len(key) + len(value or b"") <= limits.of(topic)
    _, record = avro.decode_any(value or b"")
    assert record["detail"].startswith("Only the first ")


def test_an_event_whose_record_the_broker_refuses_is_rejected_and_others_are_kept() -> None:
    body = {"events": [SMALL, {"event": "a", "id": "other"}, {"no": "event"}]}
    events = parsed("/v1/events", body)
    records = taken(events)
    left = refuse_unwritable(records, {1}, events, record_context("", RecordLimits()))
    assert left.event_ids == records.event_ids[:1]
    assert [(one.index, one.client_id, one.refusal.code) for one in left.refused] == [
        (1, "other", "too_large"),
        (2, "", records.refused[0].refusal.code),
    ]
    ((topic, _, value),) = left.records
    assert topic == topics.REJECTED
    assert avro.decode_any(value or b"")[1]["payload"] == b'{"event": "a", "id": "other"}'
