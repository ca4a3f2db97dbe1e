"""A thousand hostile connections leave memory within its limit and other senders served."""

import gzip
import http.client
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.support.running import RunningKafka, ending_well, wait_until
from tests.support.running_gateway import (
    RunningGateway,
    declare,
    make_topics,
    start_gateway,
)
from weir.core.registry import Source

GOOD = "key-of-a-good-sender"
FLOODER = "key-of-a-flooder"
MIB = 1 << 20
SIZE = 2 * MIB
INFLIGHT = 32 * MIB
CONNECTIONS = 1_000
# Bodies, a quarter of that for unread bytes, the brokers' queue, and per connection at most a head of
# 32 KiB with a piece of 16 KiB. The rest is what the interpreter and the C library take on top.
PROMISED = INFLIGHT + INFLIGHT // 4 + 32 * MIB + 512 * 48 * 1024
SLACK = 96 * MIB


@pytest.fixture(scope="module")
def flooded(
    kafka: RunningKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    make_topics(kafka.bootstrap)
    declare(kafka.bootstrap, GOOD, Source(id="good"))
    declare(kafka.bootstrap, FLOODER, Source(id="flooder"))
    running = start_gateway(
        kafka.bootstrap,
        tmp_path_factory.mktemp("flooded"),
        WEIR_GATEWAY_INFLIGHT_KILOBYTES=str(INFLIGHT // 1024),
        WEIR_GATEWAY_QUEUE_KILOBYTES=str(32 * 1024),
        WEIR_GATEWAY_BODY_SECONDS="300",
    )
    with ending_well(running.process):
        wait_until(lambda: running.knows(GOOD) and running.knows(FLOODER), 10, "the sources")
        yield running


def stalled(path: str, lines: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n{lines}\r\n"
    return head.encode() + b" " * (SIZE - 1)


def _bomb() -> bytes:
    body = gzip.compress(b" " * (SIZE - 100))
    head = f"POST /track HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _pipelined() -> bytes:
    body = b'{"event":"a","properties":{"x":"%b"}}' % (b"x" * 60_000)
    head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Weir-Key: {FLOODER}\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head.encode() + body) * 10


ATTACKS = {
    "bodies of nobody": stalled("/track"),
    "bodies with a wrong key": stalled("/v1/events", "X-Weir-Key: wrong\r\n"),
    "bodies with a key": stalled("/v1/events", f"X-Weir-Key: {FLOODER}\r\n"),
    "bodies for pages": stalled("/api/sites/good/goals"),
    "heads that never end": b"POST /track HTTP/1.1\r\nHost: x\r\n"
    + b"".join(b"X-%d: %b\r\n" % (n, b"x" * 8_000) for n in range(100)),
    "requests behind requests": _pipelined(),
    "idle connections": b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "bombs": _bomb(),
    "tiny chunks": b"POST /track HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"1\r\nx\r\n" * 100_000,
}


class Flood:
    """Connections that send what they are told as fast as it is taken, and read nothing."""

    def __init__(self, port: int, sent: bytes) -> None:
        self._connections: list[socket.socket] = []
        self._sent = memoryview(sent)
        self._port = port
        self._stop = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Flood":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._selector.close()
        for connection in self._connections:
            connection.close()

    @property
    def opened(self) -> int:
        return len(self._connections)

    def _run(self) -> None:
        while not self._stop.is_set():
            if self.opened < CONNECTIONS:
                connection = socket.socket()
                self._connections.append(connection)
                connection.setblocking(False)
                connection.connect_ex(("127.0.0.1", self._port))
                self._selector.register(connection, selectors.EVENT_WRITE, [0])
            for key, _ in self._selector.select(0 if self.opened < CONNECTIONS else 0.05):
                self._send(key)

    def _send(self, key: selectors.SelectorKey) -> None:
        connection, at = key.fileobj, key.data
        assert isinstance(connection, socket.socket)
        try:
            at[0] += connection.send(self._sent[at[0] : at[0] + 256 * 1024])
        except BlockingIOError:
            return
        except OSError:
            at[0] = len(self._sent)
        if at[0] >= len(self._sent):
            self._selector.unregister(connection)


def good_answer(gateway: RunningGateway) -> int:
    """On a connection of its own, as a client with retries would send."""
    with suppress(OSError, http.client.HTTPException):
        return gateway.post(GOOD, b'{"event":"a","properties":{"x":"%b"}}' % (b"x" * 400)).status
    return 0


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_thousand_hostile_connections_leave_memory_bounded_and_others_served(
    flooded: RunningGateway, attack: str
) -> None:
    process = psutil.Process(flooded.process.pid)
    before = process.memory_info().rss
    peak = before
    served = 0
    with Flood(flooded.port, ATTACKS[attack]) as flood:

        def is_over() -> bool:
            nonlocal peak, served
            peak = max(peak, process.memory_info().rss)
            served += good_answer(flooded) == 202
            peak = max(peak, process.memory_info().rss)
            return flood.opened == CONNECTIONS and served >= 5

        wait_until(is_over, 240, "good senders to be served")
    assert peak - before < PROMISED + SLACK, f"{(peak - before) / MIB:.0f} MiB"
    wait_until(lambda: good_answer(flooded) == 202, 60, "the gateway at rest")
