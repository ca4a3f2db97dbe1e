"""Segment's API at a real gateway: write keys, stable retries and masked keys in rejected events."""

import base64
import json
from typing import Any

import pytest

from tests.support.running_gateway import (
    KEY,
    SOURCE,
    HttpAnswer,
    RunningGateway,
    TopicReader,
)
from weir.adapters import avro
from weir.core.identifiers import dedup_key, payload_hash

ACCEPTED = avro.schemas()["Accepted"]
REJECTED = avro.schemas()["Rejected"]
CALL = {"type": "track", "userId": "u-1", "event": "Order Completed"}


def send(gateway: RunningGateway, path: str, body: Any, **headers: str) -> HttpAnswer:
    return gateway.ask(
        "POST", path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )


def basic(user_name: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user_name}:".encode()).decode()}


def test_basic_authentication_has_the_write_key_as_user_name(gateway: RunningGateway) -> None:
    answer = send(gateway, "/v1/batch", {"batch": [CALL], "writeKey": "another"}, **basic(KEY))
    assert (answer.status, answer.json()) == (200, {"success": True})
    assert gateway.ask("POST", "/v1/events", b'{"event": "a"}', basic(KEY)).status == 202


@pytest.mark.parametrize("members", [{}, {"writeKey": "wrong"}, {"writeKey": 12}])
def test_an_unknown_write_key_is_rejected_with_401_in_segments_error_format(
    gateway: RunningGateway, members: dict[str, Any]
) -> None:
    for path, body in (("/v1/batch", {"batch": [CALL]}), ("/v1/track", CALL)):
        for headers in ({}, basic("wrong")):
            answer = send(gateway, path, body | members, **headers)
            assert answer.status == 401
            problem = answer.json()
            assert (problem["success"], problem["code"]) == (False, "unauthorized")
            assert problem["error"] == {"code": problem["code"], "message": problem["message"]}


def test_a_later_retry_has_the_same_dedup_key_and_payload_hash(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    call = CALL | {"messageId": "segment-retry", "timestamp": "2026-03-01T12:00:00Z"}
    for path, body in (("/v1/batch", {"batch": [call]}), ("/v1/track", call)):
        for sent_at in ("2026-03-01T12:00:01Z", "2026-03-01T12:00:09Z"):
            members = {"sentAt": sent_at, "writeKey": KEY}
            assert send(gateway, path, body | members).status == 200
    key = dedup_key(SOURCE, "segment-retry")
    records = accepted.wait_for(lambda record: record.key == key, 4)
    hashes = [ACCEPTED.decode(record.value)["payload_hash"] for record in records]
    assert hashes[0] == hashes[1] == payload_hash(json.dumps(call).encode())
    assert hashes[2] == hashes[3]


def test_rejected_events_are_kept_with_write_keys_masked(
    gateway: RunningGateway, rejected: TopicReader
) -> None:
    """Write keys of header and body are masked, in single calls and in whole batches."""
    nobodys = {"type": "track", "event": "masked-write-keys"}
    message = nobodys | {"writeKey": "another-write-key", "context": {"key": KEY}}
    assert send(gateway, "/v1/track", message, **basic(KEY)).status == 400
    assert send(gateway, "/v1/track", nobodys | {"writeKey": KEY}).status == 400
    assert send(gateway, "/v1/batch", {"batch": message, "writeKey": KEY}).status == 400
    records = rejected.wait_for(lambda record: b"masked-write-keys" in record.value, 3)
    assert len(records) == 3
    for record in records:
        assert KEY.encode() not in record.value
        assert b"another-write-key" not in record.value
    payloads = [REJECTED.decode(record.value)["payload"] for record in records]
    (batch,) = [json.loads(one) for one in payloads if b"batch" in one]
    assert batch == {
        "batch": message | {"writeKey": "***", "context": {"key": "***"}},
        "writeKey": "***",
    }
