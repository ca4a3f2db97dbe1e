"""Hackle's unmodified SDK works against a real gateway: events, workspace config and metrics."""

import json
import re
from typing import Any

import pytest

from tests.support.official import run_client
from tests.support.running_gateway import (
    KEY,
    RunningGateway,
    TopicReader,
    metrics,
    new_source,
)
from weir.adapters import avro

ACCEPTED = avro.schemas()["Accepted"]
REJECTED = avro.schemas()["Rejected"]
CONFIG = f"/api/v2/workspaces/{KEY}/config"
MONITORED = re.compile(r'requests_total{door="hackle_monitoring",status="202"} ([\d.]+)')


def monitored(gateway: RunningGateway) -> float:
    """How often the SDK's own metrics were taken."""
    found = MONITORED.search(metrics(gateway))
    return float(found[1]) if found else 0.0


def run_sdk(gateway: RunningGateway, key: str) -> Any:
    return json.loads(run_client("hackle", f"http://127.0.0.1:{gateway.port}", key))


def test_the_sdk_starts_tracks_and_posts_its_metrics(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    source, key = new_source(gateway)
    before = monitored(gateway)
    assert run_sdk(gateway, key) == {
        "logged": ["Invalid event for track: [Invalid event value: {} (expected: finite number)]"],
        "decided": {"variation": "A", "feature": False, "remote_config": "red"},
    }
    assert monitored(gateway) == before + 1
    records = accepted.wait_for(lambda r: source.encode() in r.value, 5)
    events = [ACCEPTED.decode(record.value) for record in records]
    assert {event["door"] for event in events} == {"hackle"}
    found = sorted(
        (e["event"], e["user_id"], e["anonymous_id"], e["client_session_id"], e["value"] or 0.0,
         e["properties"])
        for e in events
    )  # fmt: skip
    three = '{"pay_method": "CARD", "discount_amount": 800, "is_discount": true}'
    assert found == [
        ("$properties", "ae2182e0", "device-1", "visit-1", 0.0, '{"$set": {"age": 30}}'),
        ("login", "ae2182e0", "device-1", "visit-1", 0.0, "{}"),
        ("purchase", "ae2182e0", "", "", 0.0, three),
        ("purchase", "ae2182e0", "", "", 0.0, "{}"),
        ("purchase", "ae2182e0", "", "", 13200.0, "{}"),
    ]


def test_the_sdk_logs_a_401_for_an_unknown_key(gateway: RunningGateway) -> None:
    logged = run_sdk(gateway, "wrong")["logged"]
    assert "Failed to poll Workspace: Http status code: 401" in logged
    assert "Failed to dispatch events: Http status code: 401" in logged


def test_the_workspace_config_is_an_empty_object_and_304_when_unchanged(
    gateway: RunningGateway,
) -> None:
    first = gateway.ask("GET", CONFIG)
    assert (first.status, first.json()) == (200, {})
    for name, value in (
        ("If-Modified-Since", first.headers["Last-Modified"]),
        ("If-None-Match", first.headers["ETag"]),
    ):
        again = gateway.ask("GET", CONFIG, headers={name: value})
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        assert "Content-Length" not in again.headers
    assert gateway.ask("GET", "/api/v2/workspaces/wrong/config").status == 401


def test_post_metrics_accepts_sdk_metrics_and_get_metrics_serves_prometheus(
    gateway: RunningGateway,
) -> None:
    body = b'{"metrics": []}'
    assert gateway.ask("POST", "/metrics", body, {"X-HACKLE-SDK-KEY": KEY}).status == 202
    assert gateway.ask("POST", "/metrics", body, {"X-HACKLE-SDK-KEY": "wrong"}).status == 401
    assert gateway.ask("POST", "/metrics", body).status == 401
    assert "weir_gateway_requests_total" in metrics(gateway)
    assert gateway.ask("HEAD", "/metrics").status == 200


@pytest.mark.parametrize("key", ["", "wrong"])
def test_events_without_a_known_sdk_key_are_rejected_with_401(
    gateway: RunningGateway, key: str
) -> None:
    answer = gateway.ask("POST", "/api/v2/events", b"{}", {"X-HACKLE-SDK-KEY": key})
    assert (answer.status, answer.json()["code"]) == (401, "unauthorized")


def test_a_rejected_event_is_kept_with_its_whole_payload_code_and_field(
    gateway: RunningGateway, rejected: TopicReader
) -> None:
    event = b'{"insertId": "hackle-kept", "eventTypeKey": "a", "value": "1", "x": 5}'
    body = b'{"trackEvents": [%b]}' % event
    headers = {"X-HACKLE-SDK-KEY": KEY, "Content-Type": "application/json"}
    assert gateway.ask("POST", "/api/v2/events", body, headers).status == 422
    (kept,) = rejected.wait_for(lambda r: REJECTED.decode(r.value)["client_id"] == "hackle-kept", 1)
    found = REJECTED.decode(kept.value)
    assert (found["door"], found["code"], found["field"]) == ("hackle", "wrong_type", "value")
    assert found["payload"] == event
