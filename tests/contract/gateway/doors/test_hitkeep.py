"""HitKeep's API over HTTP: source lookup, visitors' opt-out, rate limits and allowed origins."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.support.running import ending_well, wait_until
from tests.support.running_gateway import (
    KEY,
    SOURCE,
    HttpAnswer,
    RunningGateway,
    TopicReader,
    declare,
    metrics,
    new_source,
    start_gateway,
)
from weir.adapters import avro
from weir.core import topics
from weir.core.registry import Source

ACCEPTED = avro.schemas()["Accepted"]
PAGE = "https://www.shop.example"  # a page of the contract source's site
EVENT = b'{"n": "signup"}'
VIEW = b'{"path": "/"}'
CALL = {
    "url": "https://shop.example/a",
    "timestamp": "2025-04-15T12:00:00Z",
    "visitor_ip": "203.0.113.7",
    "user_agent": "Visitor/1",
    "name": "purchase",
}


def send(
    gateway: RunningGateway, path: str, body: bytes, client: str = "", **headers: str
) -> HttpAnswer:
    """As from an address that no other test sends from, lest its limit be shared."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return gateway.ask("POST", path, body, {"X-Forwarded-For": client, **named})


def ends(gateway: RunningGateway, topic: str) -> list[int]:
    """Where each partition of a topic ends."""
    consumer = Consumer({"bootstrap.servers": gateway.kafka.bootstrap(), "group.id": "ends"})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        places = [TopicPartition(topic, partition) for partition in sorted(partitions)]
        return [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
    finally:
        consumer.close()


def declined(gateway: RunningGateway) -> float:
    found = [
        line.split()[-1]
        for line in metrics(gateway).splitlines()
        if line.startswith('weir_gateway_events_total{outcome="declined"}')
    ]
    return float(found[0]) if found else 0.0


def test_the_documented_call_needs_no_key_for_a_source_open_by_id(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    source, _ = new_source(gateway, open_by_id=True)
    body = {
        "site_id": source,
        "name": "purchase",
        "url": "https://your-site.com/checkout/success",
        "referrer": "",
        "props": {"plan": "pro", "amount": "49"},
    }
    answer = send(gateway, "/ingest/event", json.dumps(body).encode(), "192.0.2.1")
    assert (answer.status, answer.body) == (202, b"")
    (record,) = accepted.wait_for(lambda r: ACCEPTED.decode(r.value)["source"] == source, 1)
    assert ACCEPTED.decode(record.value)["event"] == "purchase"


def test_an_unknown_site_or_wrong_key_is_rejected_with_401(gateway: RunningGateway) -> None:
    other, key = new_source(gateway, sites=("other.example",))
    call = json.dumps(CALL).encode()
    api = "/api/ingest/server/event"

    def refused(path: str, body: bytes, **headers: str) -> str:
        answer = send(gateway, path, body, "192.0.2.2", **headers)
        assert answer.status == 401
        return str(answer.json()["code"])

    assert refused("/ingest/event", EVENT) == "unknown_site"
    assert refused("/ingest", VIEW, Origin="https://unknown.example") == "unknown_site"
    assert refused("/ingest/event", b'{"site_id": "nobody", "name": "a"}') == "unauthorized"
    # not open by its id, and of another's key
    assert refused("/ingest/event", b'{"site_id": "%b"}' % SOURCE.encode()) == "unauthorized"
    body = b'{"site_id": "%b", "name": "a"}' % other.encode()
    assert refused("/ingest/event", body, X_Api_Key=KEY) == "unauthorized"
    assert refused(api, call) == "unauthorized"
    assert refused(api, call, Authorization="Bearer wrong") == "unauthorized"
    assert refused(api, call, X_Api_Key=key) == "unknown_site"
    assert send(gateway, api, call, "192.0.2.2", X_Api_Key=KEY).status == 202


@pytest.mark.parametrize("path", ["/ingest", "/ingest/event"])
@pytest.mark.parametrize("origin", [PAGE, "http://shop.example", "https://Shop.Example:8443"])
def test_pages_of_a_site_may_send(gateway: RunningGateway, path: str, origin: str) -> None:
    asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    preflight = gateway.ask("OPTIONS", path, headers=asking)
    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == origin
    assert preflight.headers["Access-Control-Allow-Credentials"] == "true"
    assert "content-type" in preflight.headers["Access-Control-Allow-Headers"]
    client = f"192.0.2.{10 + len(origin + path)}"
    answer = send(gateway, path, b'{"n": "a", "path": "/"}', client, Origin=origin)
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (202, origin)


def test_pages_of_other_sites_are_rejected_with_403(gateway: RunningGateway) -> None:
    origin = "https://evil.example"
    preflight = gateway.ask("OPTIONS", "/ingest", headers={"Origin": origin})
    assert preflight.status == 403
    keyed = send(gateway, "/ingest", VIEW, Origin=origin, X_Api_Key=KEY)
    assert (keyed.status, keyed.json()["code"]) == (403, "origin_not_allowed")
    unknown = send(gateway, "/ingest", VIEW, "192.0.2.3", Origin=origin)
    assert "Access-Control-Allow-Origin" not in unknown.headers


@pytest.mark.parametrize("way", ["DNT", "Sec_GPC", "dnt"])
def test_events_of_a_visitor_who_opted_out_get_202_and_are_not_stored(
    gateway: RunningGateway, way: str
) -> None:
    headers = {} if way == "dnt" else {way: "1"}
    more = b'"dnt": true, ' if way == "dnt" else b""
    of_source = b'{%b"site_id": "%b", "name": "a"}' % (more, SOURCE.encode())
    call = b"{" + more + json.dumps(CALL).encode()[1:]
    written = [ends(gateway, topic) for topic in (topics.ACCEPTED, topics.REJECTED)]
    before = declined(gateway)
    for path, body, who in (
        ("/ingest", b'{%b"path": "/"}' % more, {"Origin": PAGE}),
        ("/ingest/event", b'{%b"n": ""}' % more, {"Origin": PAGE}),  # not even as refused
        ("/ingest/event", of_source, {"X_Api_Key": KEY}),
        ("/api/ingest/server/event", call, {"X_Api_Key": KEY}),
        ("/api/ingest/server/pageview", b'{%b"url": 5}' % more, {"X_Api_Key": KEY}),
    ):
        client = {"DNT": "192.0.2.4", "Sec_GPC": "192.0.2.5", "dnt": "192.0.2.6"}[way]
        answer = send(gateway, path, body, client, **who, **headers)
        assert (answer.status, answer.body) == (202, b"")
    assert declined(gateway) == before + 5
    if headers:
        cut = send(gateway, "/ingest", b'{"path"', X_Api_Key=KEY, **headers)
        assert cut.status == 400
    assert [ends(gateway, topic) for topic in (topics.ACCEPTED, topics.REJECTED)] == written


@pytest.fixture
def by_default(gateway: RunningGateway, tmp_path: Path) -> Iterator[RunningGateway]:
    """A gateway whose limits are the defaults."""
    running = start_gateway(gateway.kafka.bootstrap(), tmp_path, WEIR_TRUSTED_PROXIES="127.0.0.1")
    with ending_well(running.process):
        wait_until(lambda: running.knows(KEY), 10, "the source")
        yield running


def passes(gateway: RunningGateway, client: str, at_most: int) -> int:
    """How many requests pass, one after the other at once, until one is refused."""
    headers = {"Origin": PAGE, "X-Forwarded-For": client}
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    try:
        for count in range(at_most):
            path, body = ("/ingest", VIEW) if count % 2 else ("/ingest/event", EVENT)
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status == 429:
                assert answer.headers["Access-Control-Allow-Origin"] == PAGE
                assert int(answer.headers["Retry-After"]) >= 1
                return count
            assert answer.status == 202
        return at_most
    finally:
        connection.close()


def test_the_default_rate_limit_allows_a_burst_of_40_per_client_address(
    by_default: RunningGateway,
) -> None:
    # while they are sent, more is allowed, 20 a second: so many at least, and not without end
    assert 40 <= passes(by_default, "192.0.2.7", 5_000) < 5_000
    path = "/ingest/event"  # the limit is of both, and of each address
    assert send(by_default, path, EVENT, "192.0.2.8", Origin=PAGE).status == 202


def test_a_server_with_its_write_key_is_not_rate_limited(gateway: RunningGateway) -> None:
    call = json.dumps(CALL).encode()
    body = b'{"site_id": "%b", "name": "a"}' % SOURCE.encode()
    for path, sent in (("/ingest/event", body), ("/api/ingest/server/event", call)):
        statuses = {send(gateway, path, sent, "192.0.2.9", X_Api_Key=KEY).status for _ in range(9)}
        assert statuses == {202}


def test_a_server_without_a_write_key_is_rate_limited(gateway: RunningGateway) -> None:
    source, _ = new_source(gateway, open_by_id=True)
    body = b'{"site_id": "%b", "name": "a"}' % source.encode()

    def is_limited() -> bool:
        return send(gateway, "/ingest/event", body, "198.51.100.1").status == 429

    wait_until(is_limited, 10, "the limit")


def test_hitkeep_environment_variables_apply_and_a_flag_overrides_them(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    running = start_gateway(
        gateway.kafka.bootstrap(),
        tmp_path,
        arguments=("--ingest-burst", "2"),
        HITKEEP_INGEST_RATE_LIMIT="0.001",
        HITKEEP_INGEST_BURST="9",
    )
    try:
        wait_until(lambda: running.knows(KEY), 10, "the source")
        assert passes(running, "", 9) == 2
    finally:
        running.process.stop()


def test_a_site_removed_from_its_source_is_rejected_with_401(gateway: RunningGateway) -> None:
    source, key = new_source(gateway, sites=("leaving.example",))
    headers = {"Origin": "https://leaving.example", "X-Forwarded-For": "198.51.100.2"}
    assert gateway.ask("POST", "/ingest", VIEW, headers).status == 202
    declare(gateway.kafka.bootstrap(), key, Source(id=source))
    wait_until(
        lambda: gateway.ask("POST", "/ingest", VIEW, headers).status == 401, 10, "the change"
    )
