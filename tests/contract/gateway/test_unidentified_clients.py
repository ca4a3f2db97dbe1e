"""Clients that are not identified yet cannot keep others from sending, whatever they send."""

import gzip
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.running import RunningKafka, ending_well, wait_until
from tests.support.running_gateway import (
    CONTRACT,
    KEY,
    RunningGateway,
    connect,
    declare,
    make_topics,
    metrics,
    receive_all,
    start_gateway,
)
from weir.core.registry import Source

OPEN = "open-to-all"
SHOWN = "key-that-every-page-shows"
MIB = 1 << 20
SIZE = 2 * MIB
STALLED = 36
INFLIGHT = 16 * MIB


@pytest.fixture(scope="module")
def busy(kafka: RunningKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with little memory and much patience."""
    make_topics(kafka.bootstrap)
    declare(kafka.bootstrap, KEY, CONTRACT)
    declare(kafka.bootstrap, f"key-of-{OPEN}", Source(id=OPEN, open_by_id=True))
    declare(kafka.bootstrap, SHOWN, Source(id="pages", kind="browser"))
    running = start_gateway(
        kafka.bootstrap,
        tmp_path_factory.mktemp("busy"),
        WEIR_GATEWAY_INFLIGHT_KILOBYTES=str(INFLIGHT // 1024),
        WEIR_GATEWAY_BODY_SECONDS="300",
        WEIR_INGEST_RATE="0",
    )
    with ending_well(running.process):
        wait_until(lambda: running.knows(KEY) and running.knows(SHOWN), 10, "the sources")
        yield running


def metric(gateway: RunningGateway, name: str) -> float:
    for line in metrics(gateway).splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    raise LookupError(name)


def stall(gateway: RunningGateway, path: str, size: int, lines: str = "") -> socket.socket:
    """A connection that sends all of a body but its last byte."""
    connection = connect(gateway)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{lines}\r\n"
    connection.setblocking(False)
    sent = head.encode() + b" " * (size - 1)
    while sent:
        try:
            sent = sent[connection.send(sent) :]
        except BlockingIOError:  # it is not read from: the rest may wait in vain
            break
        except OSError:  # it had to give way
            break
    return connection


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("/track", ""),
        ("/v1/track", ""),
        ("/ingest", ""),
        ("/ingest/event", ""),
        (f"/collect/a/{OPEN}", ""),
        ("/v1/events", f"X-Weir-Key: {SHOWN}\r\n"),
    ],
)
def test_stalled_bodies_of_unidentified_clients_do_not_block_others(
    busy: RunningGateway, path: str, lines: str
) -> None:
    with ExitStack() as held:
        for _ in range(STALLED):
            held.enter_context(stall(busy, path, SIZE, lines))
        wait_until(
            lambda: metric(busy, "weir_gateway_inflight_bytes") >= SIZE, 20, "stalled bodies"
        )
        assert metric(busy, "weir_gateway_inflight_bytes") <= INFLIGHT / 4
        large = b'{"event":"a","properties":{"x":"%b"}}' % (b"x" * 90_000)
        answers = [busy.post(KEY, b"[" + b",".join([large] * 20) + b"]") for _ in range(5)]
        assert {answer.status for answer in answers} == {202}
        # nor anybody at the same address who is no more identified, but sends what it promised
        open_door = busy.ask("POST", f"/collect/a/{OPEN}", b'{"x":"%b"}' % (b"x" * 1_000))
        assert open_door.status == 202
        assert busy.post(SHOWN, b'{"event":"a"}').status == 202
    wait_until(lambda: metric(busy, "weir_gateway_inflight_bytes") == 0, 20, "the memory")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/api/sites/{OPEN}/goals"),
        ("DELETE", f"/api/sites/{OPEN}/goals"),
        ("DELETE", "/v1/profiles/somebody"),
        ("POST", "/metrics"),
        ("GET", "/v1/events/some-id"),
        ("GET", "/v1/erasures/some-id"),
    ],
)
def test_api_endpoints_check_the_key_before_the_body(
    busy: RunningGateway, method: str, path: str
) -> None:
    with connect(busy) as connection:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n"
        connection.sendall(head.encode())
        assert receive_all(connection).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("path", ["/track", "/ingest/event"])
def test_a_key_in_a_header_is_checked_before_the_body(busy: RunningGateway, path: str) -> None:
    with connect(busy) as connection:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Weir-Key: no\r\nContent-Length: {SIZE}\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert receive_all(connection).startswith(b"HTTP/1.1 401 ")


def test_a_key_and_the_id_of_another_source_are_refused(busy: RunningGateway) -> None:
    body = b'{"source":{"id":"%b"},"session":{"id":"s"},"events":[{"type":"a"}]}' % OPEN.encode()
    answer = busy.ask("POST", "/track", body, {"X-Weir-Key": KEY})
    assert (answer.status, answer.json()["code"]) == (401, "unauthorized")


def test_stalled_bodies_of_one_source_leave_memory_for_other_sources(busy: RunningGateway) -> None:
    """A source takes at most half of the memory, even with a secret write key."""
    with ExitStack() as held:
        for _ in range(STALLED):
            held.enter_context(stall(busy, "/v1/events", SIZE, f"X-Weir-Key: {KEY}\r\n"))
        wait_until(
            lambda: metric(busy, "weir_gateway_inflight_bytes") > INFLIGHT / 4, 20, "stalled bodies"
        )
        assert metric(busy, "weir_gateway_inflight_bytes") <= INFLIGHT / 2
        other = f"key-of-{OPEN}"
        large = b'{"event":"a","properties":{"x":"%b"}}' % (b"x" * 90_000)
        answers = [busy.post(other, b"[" + b",".join([large] * 20) + b"]") for _ in range(5)]
        assert {answer.status for answer in answers} == {202}
    wait_until(lambda: metric(busy, "weir_gateway_inflight_bytes") == 0, 20, "the memory")


def test_small_compressed_bodies_reserve_only_their_decompressed_size(busy: RunningGateway) -> None:
    """A hundred at once are accepted, though not if each reserved the maximum body size."""
    body = gzip.compress(b'{"event":"a"}')
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Weir-Key: {KEY}\r\nContent-Encoding: gzip\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()
    with ExitStack() as held:
        connections = [held.enter_context(connect(busy)) for _ in range(100)]
        for connection in connections:
            connection.sendall(head + body)
        answers = [receive_all(connection)[:12] for connection in connections]
    assert set(answers) == {b"HTTP/1.1 202"}
