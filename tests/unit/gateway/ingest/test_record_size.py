"""The size that counts is that of the record: what is too large with its context is refused alone, and stored whole."""

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
from weir.gateway.doors.door import BodyLimits, ParsedEvents, RequestMeta
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import (
    DIGEST_BYTES,
    RecordContext,
    RequestRecords,
    build_records,
    refuse_unwritable,
)
from weir.gateway.ingest.reparse_rejected import read_again
from weir.gateway.routes import ROUTES, Router

SOURCE = Source(id="shop")
CAPS = BodyLimits(events=2_000, body_bytes=2 * 1024 * 1024)
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


def parcel_of(path: str, body: dict[str, Any]) -> ParsedEvents:
    found = Router(ROUTES).find(path)
    assert found is not None
    headers = CIMultiDictProxy(CIMultiDict({"Content-Type": "application/json"}))
    asked = RequestMeta("POST", path, "", found.parts, headers, "", 0)
    parcel = found.methods["POST"].read(asked, json.dumps(body).encode(), CAPS)  # type: ignore[union-attr]
    assert isinstance(parcel, ParsedEvents)
    return parcel


def taken(
    parcel: ParsedEvents, agent: str = "", limits: RecordLimits | None = None
) -> RequestRecords:
    return build_records(parcel, SOURCE, origin(agent, limits or RecordLimits()))


def origin(agent: str, limits: RecordLimits) -> RecordContext:
    return RecordContext(SourceFields.of(SOURCE), 0, Client("events", "", agent), limits=limits)


@pytest.mark.parametrize("door", BODIES)
def test_an_event_too_large_with_its_context_is_refused_and_stored_with_it(door: str) -> None:
    path, body = BODIES[door]
    intake = taken(parcel_of(path, body))
    assert not intake.event_ids
    ((topic, _, value),) = intake.records
    assert topic == topics.REJECTED
    (refused,) = intake.refused
    assert refused.refusal.code == "too_large"
    assert f"at most {EVENT_BYTES:,}" in refused.refusal.text
    _, record = avro.decode_any(value or b"")
    assert HUGE.encode() in record["payload"]
    if door != "tracardi":  # whose payloads cannot be read by themselves
        again = read_again(door, record["payload"])
        assert isinstance(again, ParsedEvents)
        assert taken(again).refused[0].refusal == refused.refusal


def test_its_neighbours_are_accepted() -> None:
    body = {"events": [SMALL, {"event": "a", "properties": {"p": "x" * 90_000}}, SMALL]}
    body["context"] = {"b": "y" * (EVENT_BYTES - 50_000)}  # type: ignore[assignment]
    intake = taken(parcel_of("/v1/events", body))
    assert len(intake.event_ids) == 2
    assert [one.index for one in intake.refused] == [1]
    assert [topic for topic, _, _ in intake.records] == [
        "events.accepted",
        "events.rejected",
        "events.accepted",
    ]


def test_the_largest_accepted_record_has_exactly_the_limit() -> None:
    """The user agent counts, too: it stands in the record."""
    key_bytes = len(dedup_prefix("shop")) + DIGEST_BYTES
    sizes = {}
    for more in itertools.count():
        body = {"events": [SMALL], "context": {"b": "y" * (EVENT_BYTES - 330 + more)}}
        intake = taken(parcel_of("/v1/events", body), agent="curl/8" * 10)
        sizes[more] = [
            len(value or b"") + key_bytes
            for topic, _, value in intake.records
            if topic == topics.ACCEPTED
        ]
        if intake.refused:
            break
    assert sizes[more - 1] == [EVENT_BYTES]


def test_a_lower_limit_of_a_topic_is_named() -> None:
    limits = RecordLimits({topics.UNIQUE: 200_000})
    intake = taken(
        parcel_of("/v1/events", {"events": [SMALL], "context": {"b": "y" * 200_000}}), "", limits
    )
    assert "events.unique allows only 200,000" in intake.refused[0].refusal.text


def test_a_payload_that_no_record_can_hold_is_cut_and_says_so() -> None:
    limits = RecordLimits({topics.REJECTED: 100_000})
    intake = taken(parcel_of(*BODIES["events"]), "", limits)
    ((topic, key, value),) = intake.records
    assert len(key) + len(value or b"") <= limits.of(topic)
    _, record = avro.decode_any(value or b"")
    assert record["detail"].startswith("Only the first ")


def test_events_whose_records_brokers_refuse_are_refused_and_the_others_stay() -> None:
    body = {"events": [SMALL, {"event": "a", "id": "other"}, {"no": "event"}]}
    parcel = parcel_of("/v1/events", body)
    intake = taken(parcel)
    left = refuse_unwritable(intake, {1}, parcel, origin("", RecordLimits()))
    assert left.event_ids == intake.event_ids[:1]
    assert [(one.index, one.client_id, one.refusal.code) for one in left.refused] == [
        (1, "other", "too_large"),
        (2, "", intake.refused[0].refusal.code),
    ]
    ((topic, _, value),) = left.records
    assert topic == topics.REJECTED
    assert avro.decode_any(value or b"")[1]["payload"] == b'{"event": "a", "id": "other"}'
