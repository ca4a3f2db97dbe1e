"""The gateway as clients and Kafka see it: a real process, a real broker, real bytes on the wire."""

import base64
import gzip
import json
import re
import socket
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import brotli
import psutil
import pytest
import zstandard

from services.core import topics
from services.core.identifiers import dedup_key, payload_hash
from services.core.paths import SCHEMAS
from services.core.registry import Quota, Source
from services.edge import avro
from tests.contract.gateway_fixture import (
    HttpAnswer,
    RunningGateway,
    TopicReader,
    declare,
    make_topics,
    start_gateway,
    write_quota,
)
from tests.running import RunningKafka, bare_environ, start_kafka, start_process, wait_until

EXAMPLES = SCHEMAS / "examples"
COMPRESS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}
BOMBS = COMPRESS | {"br": lambda body: brotli.compress(body, quality=2)}
ACCEPTED = avro.schemas()["Accepted"]
REJECTED = avro.schemas()["Rejected"]
KEY = "contract-key"
SOURCE = "contract"


@pytest.fixture(scope="module")
def gateway(
    kafka: RunningKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    make_topics(kafka.bootstrap)
    declare(
        kafka.bootstrap,
        KEY,
        Source(
            id=SOURCE,
            workspace="acme",
            dedup_window_seconds=60,
            allowed_origins=("https://a.example",),
        ),
    )
    running = start_gateway(
        kafka.bootstrap,
        tmp_path_factory.mktemp("gateway"),
        WEIR_INGEST_RATE="5",
        WEIR_INGEST_BURST="3",
        WEIR_GATEWAY_BODY_SECONDS="2",
        WEIR_TRUSTED_PROXIES="127.0.0.1",
    )
    wait_until(lambda: running.knows(KEY), 10, "the source")
    yield running
    assert running.process.stop() == 0


@pytest.fixture(scope="module")
def accepted(gateway: RunningGateway) -> Iterator[TopicReader]:
    reader = TopicReader(gateway.kafka.bootstrap(), topics.ACCEPTED)
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def rejected(gateway: RunningGateway) -> Iterator[TopicReader]:
    reader = TopicReader(gateway.kafka.bootstrap(), topics.REJECTED)
    yield reader
    reader.close()


def new_source(gateway: RunningGateway, **fields: Any) -> tuple[str, str]:
    """A source of a test's own that the gateway knows: its id and its key."""
    source = f"source-{uuid.uuid4().hex[:8]}"
    key = f"key-of-{source}"
    declare(gateway.kafka.bootstrap(), key, Source(id=source, **fields))
    wait_until(lambda: gateway.post(key, b"[]").status != 401, 10, "the source")
    return source, key


def send_example(gateway: RunningGateway, example: dict[str, Any]) -> tuple[bytes, HttpAnswer]:
    body = example.get("body", "").encode()
    if "body_base64" in example:
        body = base64.b64decode(example["body_base64"])
    headers = example.get("headers", {"Content-Type": "application/json"})
    compress = COMPRESS.get(headers.get("Content-Encoding", ""))
    sent = compress(body) if compress and not example.get("as_is") else body
    path = example.get("path", "/v1/events").replace("{source}", SOURCE)
    return body, gateway.ask("POST", path, sent, {"X-Weir-Key": KEY, **headers})


def examples(kind: str) -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in sorted((EXAMPLES / kind).glob("*.json"))]


@pytest.mark.parametrize("path", examples("valid"))
def test_a_valid_example_is_accepted_as_it_says(
    gateway: RunningGateway, accepted: TopicReader, path: Path
) -> None:
    example = json.loads(path.read_text())
    _, answer = send_example(gateway, example)
    expected = example["expect"]
    assert answer.status == expected["status"], answer.body
    reply = answer.json()
    assert reply["accepted"] == expected["accepted"] == len(reply["event_ids"])
    told = [{k: one[k] for k in ("index", "id", "code", "field")} for one in reply["rejected"]]
    assert told == expected["rejected"]
    ids = {uuid.UUID(text).bytes: text for text in reply["event_ids"]}
    written = accepted.wait_for(lambda r: r.value[10:26] in ids, len(ids))
    records = {r.value[10:26]: (r, ACCEPTED.decode(r.value)) for r in written}
    for event_id, wanted in zip(ids, expected.get("records", []), strict=False):
        record, event = records[event_id]
        assert {name: event[name] for name in wanted} == wanted
        assert record.key == dedup_key(SOURCE, event["idempotency_key"])
        assert record.timestamp == event["received_at"]
        assert (event["source"], event["workspace"]) == (SOURCE, "acme")
        assert event["dedup_window_seconds"] == 60


@pytest.mark.parametrize("path", examples("invalid"))
def test_an_invalid_example_is_refused_as_it_says_and_kept_whole(
    gateway: RunningGateway, rejected: TopicReader, path: Path
) -> None:
    example = json.loads(path.read_text())
    body, answer = send_example(gateway, example)
    expected = example["expect"]
    assert answer.status == expected["status"], answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status
    assert problem["code"] == expected["code"]
    assert problem["type"] == f"urn:weir:problem:{expected['code']}"
    assert problem["title"]
    assert problem["detail"]
    assert problem.get("field") == expected.get("field")
    told = [
        {k: one[k] for k in ("index", "id", "code", "field")} for one in problem.get("rejected", [])
    ]
    assert told == expected.get("rejected", [])
    code = told[0]["code"] if told else expected["code"]

    def is_it(record: Any) -> bool:
        found = REJECTED.decode(record.value)
        whole = (
            found["payload"] == body.strip() or found["payload"] in body or body in found["payload"]
        )
        return whole and found["code"] == code and found["source"] == SOURCE

    assert rejected.wait_for(is_it, 1)


def test_a_retry_of_the_same_bytes_has_the_same_hash_in_any_batch(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    event = b'{"event":"same", "id":"same-1"}'
    ids = [
        gateway.post(KEY, body).json()["event_ids"][0]
        for body in (event, b"[ " + event + b' ,{"event":"other"}]')
    ]
    assert ids[0] != ids[1]
    wanted = {uuid.UUID(text).bytes for text in ids}
    records = accepted.wait_for(lambda r: r.value[10:26] in wanted, 2)
    assert {ACCEPTED.decode(r.value)["payload_hash"] for r in records} == {payload_hash(event)}
    assert len({r.key for r in records}) == 1


@pytest.mark.parametrize("way", ["Authorization", "X-Weir-Key", "query"])
def test_each_way_to_send_the_key(gateway: RunningGateway, way: str) -> None:
    body, path = b'{"event":"a"}', "/v1/events"
    headers = {"Content-Type": "application/json"}
    if way == "query":
        path += f"?x=1&key={KEY}"
    else:
        headers[way] = f"bearer {KEY}" if way == "Authorization" else KEY
    assert gateway.ask("POST", path, body, headers).status == 202


@pytest.mark.parametrize("key", ["", "wrong", "wr\xf6ng"])
def test_without_a_known_key_nothing_is_taken(gateway: RunningGateway, key: str) -> None:
    for headers in ({"Authorization": f"Bearer {key}"}, {"X-Weir-Key": key}, {}):
        answer = gateway.ask("POST", "/v1/events", b'{"event":"a"}', headers)
        assert answer.status == 401
        assert answer.json()["code"] == "unauthorized"
    assert 'weir_gateway_problems_total{code="unauthorized"}' in metrics(gateway)


def test_a_webhook_needs_the_key_of_its_own_source(gateway: RunningGateway) -> None:
    other, _ = new_source(gateway)
    assert gateway.ask("POST", f"/collect/push/{other}?key={KEY}", b"{}").status == 401
    assert gateway.ask("POST", f"/collect/push/{SOURCE}?key={KEY}", b"{}").status == 202


def test_a_disabled_source_is_refused(gateway: RunningGateway) -> None:
    source, key = new_source(gateway)
    declare(gateway.kafka.bootstrap(), key, Source(id=source, enabled=False))
    wait_until(lambda: gateway.post(key, b'{"event":"a"}').status == 401, 10, "the change")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(gateway: RunningGateway, method: str) -> None:
    answer = gateway.ask(method, "/v1/events")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST, OPTIONS")


@pytest.mark.parametrize("path", ["/", "/v1/event", "/collect/a", "/collect/a/b/c", "/v1/events/"])
def test_other_paths_are_not_found(gateway: RunningGateway, path: str) -> None:
    assert gateway.ask("POST", path, b"{}").status == 404


def metrics(gateway: RunningGateway) -> str:
    return gateway.ask("GET", "/metrics").body.decode()


def test_too_many_events(gateway: RunningGateway) -> None:
    event = b'{"event":"a"}'
    assert gateway.post(KEY, b"[" + b",".join([event] * 2_000) + b"]").json()["accepted"] == 2_000
    for body in (b"[" + b",".join([event] * 2_001) + b"]", b"\n".join([event] * 4_001)):
        answer = gateway.post(KEY, body)
        assert (answer.status, answer.json()["code"]) == (413, "too_many_events")


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", "br", "zstd"])
def test_too_large_a_body(gateway: RunningGateway, encoding: str) -> None:
    body = b'[{"event":"a"}' + b" " * (2 * 1024 * 1024) + b"]"
    headers = {"Content-Encoding": encoding} if encoding else {}
    sent = COMPRESS[encoding](body) if encoding else body
    answer = gateway.post(KEY, sent, **headers)
    assert (answer.status, answer.json()["code"]) == (413, "body_too_large")


def test_too_large_a_body_of_unknown_length(gateway: RunningGateway) -> None:
    parts = (b" " * 65_536 for _ in range(40))
    answer = gateway.ask("POST", "/v1/events", parts, {"X-Weir-Key": KEY})
    assert (answer.status, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_bomb_does_not_go_off(gateway: RunningGateway, encoding: str) -> None:
    before = psutil.Process(gateway.process.pid).memory_info().rss
    bomb = BOMBS[encoding](bytes(100_000_000))
    assert gateway.post(KEY, bomb, **{"Content-Encoding": encoding}).status == 413
    assert psutil.Process(gateway.process.pid).memory_info().rss - before < 50_000_000


def test_too_large_an_event_is_refused_alone(gateway: RunningGateway) -> None:
    large = b'{"event":"a","properties":{"x":"' + b"x" * 102_400 + b'"}}'
    reply = gateway.post(KEY, b'[{"event":"b"},' + large + b"]").json()
    assert reply["accepted"] == 1
    assert [(one["index"], one["code"]) for one in reply["rejected"]] == [(1, "too_large")]


def test_a_shared_context_does_not_multiply_without_bound(gateway: RunningGateway) -> None:
    context = b'{"x":"' + b"x" * 90_000 + b'"}'
    events = b",".join([b'{"event":"a"}'] * 1_000)
    body = b'{"events":[' + events + b'],"context":' + context + b"}"
    assert gateway.post(KEY, body).json()["code"] == "context_too_large"


def test_a_refused_body_as_large_as_may_be_is_kept_whole(
    gateway: RunningGateway, rejected: TopicReader
) -> None:
    body = b"[" + b" " * (2 * 1024 * 1024 - 9) + b'"x' + uuid.uuid4().hex[:4].encode()
    assert gateway.post(KEY, body).status == 400
    assert rejected.wait_for(lambda r: REJECTED.decode(r.value)["payload"] == body, 1)


def test_cors(gateway: RunningGateway) -> None:
    page = {"Origin": "https://a.example"}
    asked = gateway.ask(
        "OPTIONS", "/v1/events", headers=page | {"Access-Control-Request-Method": "POST"}
    )
    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert "x-weir-key" in asked.headers["Access-Control-Allow-Headers"]
    posted = gateway.post(KEY, b'{"event":"a"}', **page)
    assert (posted.status, posted.headers["Access-Control-Allow-Origin"]) == (202, page["Origin"])
    bad = gateway.post(KEY, b'{"event":""}', **page)
    assert (bad.status, bad.headers["Access-Control-Allow-Origin"]) == (422, page["Origin"])
    unknown = gateway.post("wrong", b'{"event":"a"}', **page)
    assert (unknown.status, unknown.headers["Access-Control-Allow-Origin"]) == (401, page["Origin"])


def test_pages_of_other_origins_are_refused(gateway: RunningGateway) -> None:
    page = {"Origin": "https://evil.example"}
    asked = gateway.ask("OPTIONS", "/v1/events", headers=page)
    assert asked.status == 403
    assert "Access-Control-Allow-Origin" not in asked.headers
    posted = gateway.post(KEY, b'{"event":"a"}', **page)
    assert (posted.status, posted.json()["code"]) == (403, "origin_not_allowed")


def test_browser_sources_are_limited_by_client_address(gateway: RunningGateway) -> None:
    _, key = new_source(gateway, kind="browser")

    def status(client: str) -> int:
        return gateway.post(key, b'{"event":"a"}', **{"X-Forwarded-For": client}).status

    answers: list[HttpAnswer] = []

    def is_limited() -> bool:
        answer = gateway.post(key, b'{"event":"a"}', **{"X-Forwarded-For": "203.0.113.1"})
        if answer.status == 429:
            answers.append(answer)
        return answer.status == 429

    wait_until(is_limited, 10, "the limit")
    assert answers[0].json()["code"] == "client_rate_limited"
    assert int(answers[0].headers["Retry-After"]) >= 1
    assert status("203.0.113.2") == 202  # another client is not concerned
    wait_until(lambda: status("203.0.113.1") == 202, 10, "the bucket to fill")


def test_server_sources_are_not_limited_by_address(gateway: RunningGateway) -> None:
    assert {gateway.post(KEY, b'{"event":"a"}').status for _ in range(20)} == {202}


def test_a_source_has_a_rate_of_its_own(gateway: RunningGateway) -> None:
    _, key = new_source(gateway, events_per_second=10.0, events_burst=20)
    batch = b"[" + b",".join([b'{"event":"a"}'] * 50) + b"]"
    assert gateway.post(key, batch).status == 202  # into debt, once
    answer = gateway.post(key, batch)
    assert (answer.status, answer.json()["code"]) == (429, "source_rate_limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= 5


def test_a_quota_refuses_until_its_period_ends(gateway: RunningGateway) -> None:
    quota = Quota(name="plan", period="hour", limit=10)
    source, key = new_source(gateway, quotas=(quota,))
    bootstrap = gateway.kafka.bootstrap()
    assert gateway.post(key, b'{"event":"a"}').status == 202  # no state: open
    resets_at = int(time.time() * 1000) + 6_000
    write_quota(bootstrap, source, name="plan", used=10, exceeded=True, resets_at=resets_at)
    wait_until(
        lambda: gateway.post(key, b'{"event":"a"}').status == 429, 2, "the quota, within 2 s"
    )
    answer = gateway.post(key, b'{"event":"a"}')
    assert answer.json()["code"] == "quota_exceeded"
    assert "'plan'" in answer.json()["detail"]
    assert 1 <= int(answer.headers["Retry-After"]) <= 6
    wait_until(lambda: gateway.post(key, b'{"event":"a"}').status == 202, 10, "the period's end")
    assert int(time.time() * 1000) >= resets_at


def test_a_raised_limit_counts_at_once(gateway: RunningGateway) -> None:
    source, key = new_source(gateway, quotas=(Quota(name="plan", period="hour", limit=10),))
    bootstrap = gateway.kafka.bootstrap()
    later = int(time.time() * 1000) + 3_600_000
    write_quota(bootstrap, source, name="plan", used=10, exceeded=True, resets_at=later)
    wait_until(lambda: gateway.post(key, b'{"event":"a"}').status == 429, 2, "the quota")
    declare(
        bootstrap, key, Source(id=source, quotas=(Quota(name="plan", period="hour", limit=99),))
    )
    wait_until(lambda: gateway.post(key, b'{"event":"a"}').status == 202, 5, "the new limit")


def test_a_quota_may_only_mark(gateway: RunningGateway, accepted: TopicReader) -> None:
    quota = Quota(name="plan", period="hour", limit=10, action="mark")
    source, key = new_source(gateway, quotas=(quota,))
    later = int(time.time() * 1000) + 3_600_000
    write_quota(
        gateway.kafka.bootstrap(),
        source,
        name="plan",
        used=11,
        exceeded=True,
        resets_at=later,
        action="mark",
    )

    def is_marked() -> bool:
        answer = gateway.post(key, b'{"event":"a"}')
        assert answer.status == 202
        event_id = uuid.UUID(answer.json()["event_ids"][0]).bytes
        [record] = accepted.wait_for(lambda r: r.value[10:26] == event_id, 1)
        return bool(ACCEPTED.decode(record.value)["over_quota"])

    wait_until(is_marked, 5, "the mark")


def test_the_client_address_and_agent_are_kept(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7", "User-Agent": "x" * 600}
    answer = gateway.post(KEY, b'{"event":"a"}', **headers)
    event_id = uuid.UUID(answer.json()["event_ids"][0]).bytes
    [record] = accepted.wait_for(lambda r: r.value[10:26] == event_id, 1)
    event = ACCEPTED.decode(record.value)
    assert (event["ip"], event["user_agent"]) == ("198.51.100.7", "x" * 512)


def connect(gateway: RunningGateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=20)


def receive_all(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received


HEAD = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Weir-Key: {KEY}\r\n".encode()


def test_a_slow_body_is_given_up_and_hurts_nobody(gateway: RunningGateway) -> None:
    with connect(gateway) as slow:
        slow.sendall(HEAD + b'Content-Length: 100\r\nConnection: close\r\n\r\n{"ev')
        assert gateway.post(KEY, b'{"event":"a"}').status == 202
        assert receive_all(slow).startswith(b"HTTP/1.1 408 ")


def test_clients_that_hang_up_hurt_nobody(gateway: RunningGateway) -> None:
    for part in (
        b"POST /v1/ev",
        HEAD,
        HEAD + b'Content-Length: 100\r\n\r\n{"ev',
        HEAD + b"Content-Length: 13\r\n\r\n" + b'{"event":"a"}',
    ):
        with connect(gateway) as gone:
            gone.sendall(part)
    assert gateway.post(KEY, b'{"event":"a"}').status == 202
    assert "Traceback" not in gateway.process.said()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NONSENSE\r\n\r\n",
        HEAD + b"Content-Length: x\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"X: " + b"x" * 20_000 + b"\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/events?" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_broken_http_is_a_400(gateway: RunningGateway, request_bytes: bytes) -> None:
    with connect(gateway) as connection:
        connection.sendall(request_bytes)
        assert receive_all(connection).startswith(b"HTTP/1.1 400 ")
    assert "Traceback" not in gateway.process.said()


def test_pipelined_requests_are_answered_in_order(gateway: RunningGateway) -> None:
    one = HEAD + b"Content-Length: 13\r\n\r\n" + b'{"event":"a"}'
    two = HEAD + b"Content-Length: 12\r\nConnection: close\r\n\r\n" + b'{"event":""}'
    with connect(gateway) as connection:
        connection.sendall(one + two)
        received = receive_all(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"202", b"422"]


def test_a_client_may_ask_to_continue(gateway: RunningGateway) -> None:
    with connect(gateway) as connection:
        connection.sendall(
            HEAD + b"Content-Length: 13\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        )
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b'{"event":"a"}')
        assert receive_all(connection).startswith(b"HTTP/1.1 202 ")


def test_http_1_0_closes(gateway: RunningGateway) -> None:
    with connect(gateway) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        received = receive_all(connection)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in received


def test_the_broker_away(tmp_path: Path) -> None:
    """503 and Retry-After, bounded memory; ready again when it is back; what got a 202 is there."""
    broker = start_kafka(tmp_path / "kafka")
    make_topics(broker.bootstrap)
    declare(broker.bootstrap, KEY, Source(id=SOURCE))
    running = start_gateway(
        broker.bootstrap,
        tmp_path,
        WEIR_GATEWAY_ACK_SECONDS="2",
        WEIR_GATEWAY_QUEUE_KILOBYTES="4096",
    )
    try:
        wait_until(lambda: running.knows(KEY), 10, "the source")
        told: list[str] = []
        told += running.post(KEY, b'{"event":"before"}').json()["event_ids"]
        broker.kill()
        batch = (
            b"["
            + b",".join([b'{"event":"a","properties":{"x":"%b"}}' % (b"x" * 5_000)] * 200)
            + b"]"
        )
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: running.post(KEY, batch), range(64)))
        assert {answer.status for answer in answers} == {503}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
        assert psutil.Process(running.process.pid).memory_info().rss < 250_000_000
        wait_until(lambda: not running.is_ready(), 20, "readiness to go")
        assert running.ask("GET", "/livez").status == 200
        port = broker.port
        broker = start_kafka(tmp_path / "kafka", port)
        wait_until(running.is_ready, 30, "readiness to come back")
        told += running.post(KEY, b'{"event":"after"}').json()["event_ids"]
        assert len(told) == 2
        assert running.process.stop() == 0
    finally:
        running.process.kill()
        broker.kill()


def test_without_a_broker_it_lives_but_is_not_ready(tmp_path: Path) -> None:
    running = start_gateway("127.0.0.1:1", tmp_path, ready=False)
    try:
        assert running.ask("GET", "/readyz").status == 503
        answer = running.post(KEY, b'{"event":"a"}')
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        assert "Retry-After" in answer.headers
    finally:
        running.process.kill()


def test_sigterm_answers_what_is_under_way(kafka: RunningKafka, tmp_path: Path) -> None:
    """A body half sent when SIGTERM comes is still taken, answered and durable."""
    make_topics(kafka.bootstrap)
    declare(
        kafka.bootstrap,
        KEY,
        Source(
            id=SOURCE,
            workspace="acme",
            dedup_window_seconds=60,
            allowed_origins=("https://a.example",),
        ),
    )
    running = start_gateway(kafka.bootstrap, tmp_path)
    wait_until(lambda: running.knows(KEY), 10, "the source")
    reader = TopicReader(kafka.bootstrap, topics.ACCEPTED)
    with connect(running) as connection, connect(running) as idle:
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(1_000)
        connection.sendall(HEAD + b'Content-Length: 13\r\n\r\n{"event"')
        wait_until(
            lambda: b"weir_gateway_inflight_bytes 8.0" in running.ask("GET", "/metrics").body,
            5,
            "the half body",
        )
        stopping = threading.Thread(target=running.process.stop)
        stopping.start()
        wait_until(lambda: "draining" in running.process.said(), 5, "the drain")
        connection.sendall(b':"a"}')
        received = receive_all(connection)
        assert idle.recv(1_000) == b""  # an idle connection is closed
    stopping.join()
    assert running.process.stop() == 0
    event_id = json.loads(received.partition(b"\r\n\r\n")[2])["event_ids"][0]
    assert reader.wait_for(lambda r: r.value[10:26] == uuid.UUID(event_id).bytes, 1)
    reader.close()


def test_several_processes_share_a_port_and_their_metrics(
    kafka: RunningKafka, tmp_path: Path
) -> None:
    make_topics(kafka.bootstrap)
    key = f"key-{uuid.uuid4()}"
    declare(kafka.bootstrap, key, Source(id="shared"))
    running = start_gateway(kafka.bootstrap, tmp_path, WEIR_GATEWAY_PROCESSES="2")
    try:
        wait_until(lambda: all(running.knows(key) for _ in range(20)), 20, "the source, everywhere")
        for _ in range(50):
            assert running.post(key, b'{"event":"a"}').status == 202
        counted = 'weir_gateway_events_total{outcome="accepted"} 50.0'
        wait_until(lambda: counted in metrics(running), 5, "both processes' counts")
        children = psutil.Process(running.process.pid).children()
        assert len(children) == 2
        assert running.process.stop() == 0
        assert not any(child.is_running() for child in children)
    finally:
        running.process.kill()


def test_a_port_in_use_is_one_sentence(kafka: RunningKafka, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = start_process(
            [sys.executable, "-m", "services.gateway"],
            tmp_path / "log",
            bare_environ(WEIR_KAFKA_BOOTSTRAP=kafka.bootstrap, WEIR_GATEWAY_PORT=str(port)),
        )
        assert running.process.wait(20) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in running.said()
    assert "Traceback" not in running.said()
