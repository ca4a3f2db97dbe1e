"""Every endpoint checks signatures of sources with secrets; a replayed request has the same keys."""

import time

import msgspec
import pytest

from tests.support import signing as senders
from tests.support.running_gateway import SECRET, RunningGateway, TopicReader, new_source
from weir.adapters import avro
from weir.gateway.http import signing

ACCEPTED = avro.schemas()["Accepted"]
BODIES = {
    "/v1/events": b'{"event": "paid"}',
    "/collect/paid/SOURCE": b'{"price": 3}',
    "/track": b'{"source": {"id": "SOURCE"}, "session": {"id": "s"}, "events": [{"type": "paid"}]}',
    "/v1/track": b'{"event": "paid", "userId": "ada"}',
    "/v1/cloudevents": b'{"specversion":"1.0","id":"1","source":"/x","type":"paid"}',
    "/event/ingest": b'{"name": "paid", "userId": "ada"}',
    "/api/v2/events": b'{"trackEvents": [{"eventTypeKey": "paid", "identifiers": {"$id": "ada"}}]}',
    "/ingest/event": b'{"site_id": "SOURCE", "name": "paid"}',
}


def headers(method: str, path: str, body: bytes, key: str = "") -> dict[str, str]:
    at = str(int(time.time()))
    text = f"{at}\n{method}\n{path}\n\n".encode() + body
    signed = {"X-Weir-Signature": f"t={at},v1={signing.sign(text, SECRET).decode()}"}
    kind = "application/cloudevents+json" if "cloudevents" in path else "application/json"
    return signed | {"Content-Type": kind} | ({"X-Weir-Key": key} if key else {})


@pytest.mark.parametrize("path", BODIES)
def test_every_endpoint_requires_a_signature_from_a_source_with_secrets(
    gateway: RunningGateway, path: str
) -> None:
    source, key = new_source(gateway, signing_secrets=(SECRET,), open_by_id=True)
    body, path = BODIES[path].replace(b"SOURCE", source.encode()), path.replace("SOURCE", source)
    signed = headers("POST", path, body, key)
    unsigned = {name: value for name, value in signed.items() if "Signature" not in name}
    assert gateway.ask("POST", path, body, unsigned).status == 401
    assert gateway.ask("POST", path, body + b" ", signed).status == 401
    assert gateway.ask("POST", path, body, signed).status in (200, 202)


def test_a_replayed_signed_request_produces_the_same_dedup_keys(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    source, key = new_source(gateway, signing_secrets=(SECRET,), dedup_window_seconds=1)
    body = msgspec.json.encode([{"event": "paid"}, {"event": "paid"}])
    signed = headers("POST", "/v1/events", body, key)
    bulk = b'[{"event": "opened", "distinct_id": "ada"}]'
    other = senders.suprsend("POST", "/v2/bulk/event/", bulk, key, SECRET)
    for _ in range(2):
        assert gateway.ask("POST", "/v1/events", body, signed).status == 202
        assert gateway.ask("POST", "/v2/bulk/event/", bulk, other).status == 202
    records = accepted.wait_for(lambda record: source.encode() in record.value, 6)
    assert len({record.key for record in records}) == 3
    windows = {ACCEPTED.decode(record.value)["dedup_window_seconds"] for record in records}
    assert min(windows) >= signing.REMEMBERED_SECONDS
