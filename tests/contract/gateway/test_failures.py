"""The gateway handles a broker outage, SIGTERM, several processes and a port in use."""

import json
import socket
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import psutil

from tests.support.running import (
    RunningKafka,
    bare_environ,
    ending_well,
    start_kafka,
    start_process,
    wait_until,
)
from tests.support.running_gateway import (
    CONTRACT,
    HEAD,
    KEY,
    SOURCE,
    TopicReader,
    connect,
    declare,
    make_topics,
    metrics,
    receive_all,
    start_gateway,
)
from weir.core import topics
from weir.core.registry import Source


def test_the_gateway_answers_503_while_the_broker_is_down_and_recovers(tmp_path: Path) -> None:
    """503 says what may be stored, memory stays bounded, and readiness returns with the broker."""
    with ExitStack() as left:
        broker = start_kafka(tmp_path / "kafka")
        left.callback(broker.kill)
        make_topics(broker.bootstrap)
        declare(broker.bootstrap, KEY, Source(id=SOURCE))
        running = start_gateway(
            broker.bootstrap,
            tmp_path,
            WEIR_GATEWAY_ACK_SECONDS="2",
            WEIR_GATEWAY_QUEUE_KILOBYTES="4096",
            WEIR_GATEWAY_INFLIGHT_KILOBYTES="16384",
        )
        left.enter_context(ending_well(running.process))
        wait_until(lambda: running.knows(KEY), 10, "the source")
        event_ids: list[str] = []
        event_ids += running.post(KEY, b'{"event":"before"}').json()["event_ids"]
        broker.kill()
        batch = (
            b"["
            + b",".join([b'{"event":"a","properties":{"x":"%b"}}' % (b"x" * 5_000)] * 200)
            + b"]"
        )
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: running.post(KEY, batch), range(32)))
        assert {answer.status for answer in answers} == {503}
        details = {answer.json()["code"]: answer.json()["detail"] for answer in answers}
        assert "unacknowledged" in details  # they were handed over, so some may be stored
        assert "the same ids" in details.pop("unacknowledged")
        assert set(details) <= {"unavailable", "overloaded"}
        assert all("Nothing was accepted" in detail for detail in details.values())
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
        assert psutil.Process(running.process.pid).memory_info().rss < 250_000_000
        wait_until(lambda: not running.is_ready(), 20, "readiness to go")
        assert running.ask("GET", "/livez").status == 200
        port = broker.port
        broker = start_kafka(tmp_path / "kafka", port)
        left.callback(broker.kill)
        wait_until(running.is_ready, 30, "readiness to come back")
        event_ids += running.post(KEY, b'{"event":"after"}').json()["event_ids"]
        assert len(event_ids) == 2


def test_a_gateway_started_without_a_broker_is_not_ready_and_answers_503(tmp_path: Path) -> None:
    running = start_gateway("127.0.0.1:1", tmp_path, ready=False)
    try:
        assert running.ask("GET", "/readyz").status == 503
        answer = running.post(KEY, b'{"event":"a"}')
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        assert "Retry-After" in answer.headers
    finally:
        running.process.kill()


def test_a_request_in_flight_at_sigterm_is_answered_and_stored(
    kafka: RunningKafka, tmp_path: Path
) -> None:
    """A body half sent at SIGTERM is still accepted, answered and stored in Kafka."""
    make_topics(kafka.bootstrap)
    declare(kafka.bootstrap, KEY, CONTRACT)
    running = start_gateway(kafka.bootstrap, tmp_path)
    reader = TopicReader(kafka.bootstrap, topics.ACCEPTED)
    with closing(reader), ending_well(running.process):
        wait_until(lambda: running.knows(KEY), 10, "the source")
        with connect(running) as connection, connect(running) as idle:
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(1_000)
            connection.sendall(HEAD + b'Content-Length: 13\r\n\r\n{"event"')
            wait_until(
                lambda: b"weir_gateway_inflight_bytes 8.0" in running.ask("GET", "/metrics").body,
                5,
                "the half body",
            )
            running.process.process.terminate()
            wait_until(lambda: "draining" in running.process.said(), 5, "the drain")
            connection.sendall(b':"a"}')
            received = receive_all(connection)
            assert idle.recv(1_000) == b""  # an idle connection is closed
        assert running.process.process.wait(30) == 0
        event_id = json.loads(received.partition(b"\r\n\r\n")[2])["event_ids"][0]
        assert reader.wait_for(lambda r: r.value[10:26] == uuid.UUID(event_id).bytes, 1)


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


def test_a_port_in_use_ends_the_gateway_with_a_one_sentence_error(
    kafka: RunningKafka, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = start_process(
            [sys.executable, "-m", "weir.gateway"],
            tmp_path / "log",
            bare_environ(WEIR_KAFKA_BOOTSTRAP=kafka.bootstrap, WEIR_GATEWAY_PORT=str(port)),
        )
        assert running.process.wait(20) == 1
    assert f"cannot listen on 127.0.0.1:{port}" in running.said()
    assert "Traceback" not in running.said()
