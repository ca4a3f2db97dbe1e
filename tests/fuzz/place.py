"""A whole Weir for fuzzing, every part a real process: what is taken at the door has to arrive."""

import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.stack import Member, Stack
from tests.fuzz.rules import LAST, ONE
from tests.fuzz.sources import DECLARED
from tests.support.books import settled_books
from tests.support.running import bare_environ
from weir.adapters.kafka.producer import DurableProducer, ProducerOptions
from weir.core.resource_paths import ROOT
from weir.gateway.ingest.producer import KafkaRecord

BODY_SECONDS = 2
IDLE_SECONDS = 2
INFLIGHT_KILOBYTES = 16_384
HANG_SECONDS = 30.0  # no answer for so long is none
IN_FLIGHT = 16  # records, each of which may be of megabytes
MIB = 1 << 20


class Place(Stack):
    """Everything runs and is ready on `begin`'s return."""

    gateway: Member

    def begin(self) -> None:
        self.start_ready("warehouse")
        self.migrate()
        self.apply_sources(DECLARED)
        self.gateway = self.start_ready(
            "gateway",
            WEIR_GATEWAY_BODY_SECONDS=str(BODY_SECONDS),
            WEIR_GATEWAY_IDLE_SECONDS=str(IDLE_SECONDS),
            WEIR_GATEWAY_INFLIGHT_KILOBYTES=str(INFLIGHT_KILOBYTES),
            WEIR_INGEST_RATE="0",
        )
        for worker in ("dedup", "identity", "rates", "sink"):
            self.start(worker)

    @property
    def port(self) -> int:
        return self.gateway.probe.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=HANG_SECONDS)

    def exchange(self, pieces: Sequence[bytes]) -> bytes:
        """All that is answered to a connection that sends these pieces, and then no more.

        `TimeoutError`: nothing happens any more, though the limits on silence have passed.
        """
        received = b""
        with self.connect() as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
                while part := connection.recv(65_536):
                    received += part
            except ConnectionError:
                pass  # the gateway need not read on when it has refused
        return received

    def check_up(self) -> None:
        """The gateway takes a good event, and has said nothing of faults of its own."""
        answer = self.exchange([ONE, LAST])
        assert answer.startswith(b"HTTP/1.1 202 "), f"a good event: {answer!r}"
        said = self.gateway.process.said()
        assert "Traceback" not in said, said[said.index("Traceback") :][:3_000]
        assert "request failed" not in said

    def peak_mib(self) -> float:
        """The most memory that the gateway has had at once, since `forget_peak`."""
        status = Path(f"/proc/{self.gateway.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024 / MIB

    def forget_peak(self) -> None:
        Path(f"/proc/{self.gateway.pid}/clear_refs").write_text("5")

    def write(self, records: Sequence[KafkaRecord], timestamp: int) -> None:
        """As the gateway writes what it has taken; durable on return."""
        faults: list[object] = []
        producer = DurableProducer(self.kafka, ProducerOptions(5, 30, 65_536, faults.append))

        def acknowledge(error: object, _record: object) -> None:
            if error is not None:
                faults.append(error)

        for topic, key, value in records:
            assert value is not None
            while len(producer) >= IN_FLIGHT:
                producer.poll(0.1)
            producer.write(topic, value, key, -1, acknowledge, None, timestamp)
            producer.poll(0)
        assert producer.flush(60) == 0
        assert not faults, faults[:3]

    def stored(self) -> int:
        """Events that are rows, when nothing is in flight any more.

        `AssertionError` unless the books balance, and nothing is dead.
        """
        pages: list[dict[str, int]] = settled_books(self._weir)["pages"]
        dead = sum(page["dead"] for page in pages)
        assert not dead, f"{dead} of what was taken died behind the door"
        return sum(page["stored"] for page in pages)

    def _weir(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environ = bare_environ(
            WEIR_DATA_DIR=str(self.folder),
            WEIR_KAFKA_BOOTSTRAP=self.broker.bootstrap,
            WEIR_CLICKHOUSE_PORT=str(self.clickhouse_port),
        )
        return subprocess.run(
            [sys.executable, "-m", "weir.cli.main", *arguments],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
