"""UserFlux events reach the topic for processes and a row for analysts, and repeats count once."""

import json
import time
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.running import wait_until
from tests.support.running_gateway import TopicReader
from tests.support.running_weir import RunningWeir
from weir.adapters import avro
from weir.core import topics

PATIENCE = 60
RESOLVED = avro.schemas()["Resolved"]
DEVICE = {"browser": "Firefox", "os": "Linux", "screenWidth": 1920}


@pytest.fixture(scope="module")
def resolved(weir: RunningWeir) -> Iterator[TopicReader]:
    """What a transactional process of the site's own would read."""
    reader = TopicReader(f"127.0.0.1:{weir.environ['WEIR_KAFKA_PORT']}", topics.RESOLVED)
    yield reader
    reader.close()


def post(weir: RunningWeir, path: str, body: Any) -> Any:
    headers = {
        "Authorization": "Bearer userflux-write-key",
        "Content-Type": "application/json",
        "Origin": "https://shop.example",
    }
    where = f"{weir.gateway}{path}?locationEnrichment=true"
    request = urllib.request.Request(where, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 202
        return json.load(answer)


def event_of(anonymous: str, name: str, **properties: Any) -> dict[str, Any]:
    return {
        "timestamp": int(time.time() * 1000),
        "userId": None,
        "anonymousId": anonymous,
        "sessionId": None,
        "name": name,
        "properties": properties,
        "deviceData": DEVICE,
    }


def test_a_userflux_event_is_on_the_resolved_topic_and_a_row_in_clickhouse(
    weir: RunningWeir, resolved: TopicReader
) -> None:
    items = [{"sku": "lamp-1", "tags": ["new"]}, {"sku": "bulb-9", "price": 2.5}]
    event = event_of(str(uuid.uuid4()), "order_completed", items=items)
    (event_id,) = post(weir, "/event/ingest/batch", {"events": [event]})["event_ids"]

    def is_it(record: Any) -> bool:
        return bool(RESOLVED.decode(record.value)["event_id"] == uuid.UUID(event_id).bytes)

    (record,) = resolved.wait_for(is_it, 1)
    found = RESOLVED.decode(record.value)
    assert (found["event"], json.loads(found["properties"])) == (
        "order_completed",
        {"items": items},
    )
    assert found["profile_id"]
    where = f"FROM weir.events WHERE event_id = '{event_id}'"
    wait_until(lambda: weir.ask(f"SELECT count() {where}") == [(1,)], PATIENCE, "the row")
    assert weir.ask(
        "SELECT profile_id, door, properties.items[2].sku::String, context.device.browser::String,"
        f" context.location_enrichment::Bool {where}"
    ) == [(found["profile_id"], "userflux", "bulb-9", "Firefox", True)]


def test_a_userflux_retry_counts_once_and_a_profile_call_identifies_the_visitor(
    weir: RunningWeir,
) -> None:
    anonymous, user = str(uuid.uuid4()), f"ada-{uuid.uuid4().hex[:8]}"
    viewed, clicked = event_of(anonymous, "page_view"), event_of(anonymous, "click")
    post(weir, "/event/ingest/batch", {"events": [viewed]})
    post(weir, "/event/ingest/batch", {"events": [clicked, viewed]})
    profile = {"userId": user, "anonymousId": anonymous, "properties": {"plan": "pro"}}
    post(weir, "/profile", profile | {"deviceData": DEVICE})
    weir.require_balanced_books()
    assert weir.ask(
        "SELECT event, count(), uniqExact(profile_id) FROM weir.events_current"
        f" WHERE anonymous_id = '{anonymous}' GROUP BY event ORDER BY event"
    ) == [("$identify", 1, 1), ("click", 1, 1), ("page_view", 1, 1)]
    assert weir.ask(
        f"SELECT uniqExact(profile_id) FROM weir.events_current WHERE anonymous_id = '{anonymous}'"
    ) == [(1,)]
    assert weir.ask(
        f"SELECT traits.plan::String FROM weir.profiles WHERE has(user_ids, '{user}')"
    ) == [("pro",)]
    assert weir.ask(
        "SELECT count(), countIf(same_payload) FROM weir.duplicates WHERE source = 'userflux'"
        " AND idempotency_key LIKE 'userflux-%'"
    ) == [(1, 1)]
