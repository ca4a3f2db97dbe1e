"""Tracardi's endpoints over HTTP on a real broker: source keys, profiles and worker results."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from tests.support.running_gateway import (
    KEY,
    SOURCE,
    HttpAnswer,
    RunningGateway,
    TopicReader,
    new_source,
)
from weir.adapters import avro
from weir.adapters.kafka.clients import write_entries
from weir.adapters.receipt_records import encode_receipt
from weir.core import topics
from weir.core.receipts import Receipt, ReceiptProfile

ACCEPTED = avro.schemas()["Accepted"]


def track(
    gateway: RunningGateway,
    source: str = SOURCE,
    path: str = "/track",
    key: str = "",
    **members: Any,
) -> HttpAnswer:
    payload = {"source": {"id": source}, "session": {"id": "s-1"}, "events": [{"type": "a"}]}
    headers = {"Content-Type": "application/json"} | ({"X-Weir-Key": key} if key else {})
    return gateway.ask("POST", path, json.dumps(payload | members).encode(), headers)


def test_an_unknown_source_gets_an_authorization_error(gateway: RunningGateway) -> None:
    answer = track(gateway, "nobody")
    assert answer.status == 401
    error = answer.json()
    assert error["detail"] == "No source 'nobody' accepts events without its key."
    assert error["code"] == "unauthorized"


def test_a_source_that_is_open_by_its_id_needs_no_key(gateway: RunningGateway) -> None:
    source, key = new_source(gateway, open_by_id=True)
    assert track(gateway, source).status == 200
    assert track(gateway, source, key=key).status == 200
    for wrong in ("wrong", KEY):
        assert track(gateway, source, key=wrong).status == 401


def test_a_source_that_is_not_open_needs_its_key(gateway: RunningGateway) -> None:
    other, _ = new_source(gateway)
    assert track(gateway).status == 401
    assert track(gateway, key=KEY).status == 200
    assert track(gateway, path=f"/track?key={KEY}").status == 200
    assert track(gateway, other, key=KEY).status == 401


def test_a_request_without_a_profile_gets_a_new_profile_id_for_its_events(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    answer = track(gateway, key=KEY, events=[{"type": "a"}, {"type": "b"}]).json()
    profile = answer["profile"]["id"]
    assert uuid.UUID(profile).version == 4

    def is_its(record: Any) -> bool:
        return bool(ACCEPTED.decode(record.value)["client_profile_id"] == profile)

    assert len(accepted.wait_for(is_its, 2)) == 2
    again = track(gateway, key=KEY, profile={"id": profile}).json()
    assert again == {"profile": {"id": profile}, "source": {"consent": False}}


def test_the_response_contains_profile_and_debug_data_of_worker_receipts(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    profile = str(uuid.uuid4())
    options = {"debugger": True, "profile": True}
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(
            track, gateway, key=KEY, profile={"id": profile}, options=options
        )  # fmt: skip

        def is_its(record: Any) -> bool:
            return bool(ACCEPTED.decode(record.value)["client_profile_id"] == profile)

        event = ACCEPTED.decode(accepted.wait_for(is_its, 1)[0].value)
        assert event["wants_receipt"]
        receipt_profile = ReceiptProfile(
            id=profile, traits={}, events=7, sessions=2, first_seen_at=1, last_seen_at=2
        )
        receipt = Receipt(
            event_id=event["event_id"],
            step="identity",
            outcome="resolved",
            received_at=event["received_at"],
            profile_id=profile,
            session_id="s-1",
            profile=msgspec.json.encode(receipt_profile).decode(),
        )
        output = encode_receipt(receipt)
        write_entries(gateway.kafka, topics.RECEIPTS, [(output.key, output.value)])
        reply = asking.result().json()
    assert (reply["profile"]["id"], reply["profile"]["events"]) == (profile, 7)
    assert reply["debugging"]["events"]["ids"] == [str(uuid.UUID(bytes=event["event_id"]))]
    assert reply["debugging"]["profile"]["saved"] == 1
    assert reply["debugging"]["logs"] == []


def test_the_debug_response_reports_events_without_a_result_yet(gateway: RunningGateway) -> None:
    reply = track(
        gateway, key=KEY, events=[{"type": "a"}, {"type": "b"}], options={"debugger": True}
    ).json()
    assert uuid.UUID(reply["profile"]["id"])
    for section in ("session", "events", "profile"):
        assert reply["debugging"][section]["saved"] == 0
        assert "2 of 2 events have no result yet" in reply["debugging"][section]["errors"][0]


def test_a_cors_preflight_of_the_track_endpoint_allows_post(gateway: RunningGateway) -> None:
    page = {"Origin": "https://a.example"}
    asked = gateway.ask("OPTIONS", "/track", headers=page)
    assert (asked.status, asked.headers["Access-Control-Allow-Methods"]) == (204, "POST")


def test_a_webhook_by_get_needs_its_sources_key(gateway: RunningGateway) -> None:
    path = f"/collect/opened/{SOURCE}?campaign=spring"
    assert gateway.ask("GET", path).status == 401
    answer = gateway.ask("GET", f"{path}&key={KEY}")
    assert (answer.status, answer.json()["accepted"]) == (202, 1)
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_write_key_in_the_query_is_kept_nowhere(
    gateway: RunningGateway, accepted: TopicReader, rejected: TopicReader
) -> None:
    mark = uuid.uuid4().hex
    for event in (f"fine-{mark}", f"not%20fine-{mark}"):
        gateway.ask("GET", f"/collect/{event}/{SOURCE}?key={KEY}&mark={mark}")
    for topic in (accepted, rejected):
        (record,) = topic.wait_for(lambda record: mark.encode() in record.value, 1)
        assert KEY.encode() not in record.value
