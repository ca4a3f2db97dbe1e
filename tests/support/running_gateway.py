"""A real gateway process on a real broker, and a client that speaks to it byte by byte."""

import http.client
import socket
import ssl
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, TopicPartition

from tests.support.running import RunningProcess, bare_environ, free_port, start_process, wait_until
from weir.adapters import avro
from weir.adapters.kafka.clients import write_entries
from weir.cli.topics import apply_topics
from weir.core import topics
from weir.core.registry import Source, hash_key
from weir.registry.follower import registry_key
from weir.registry.sources_file import DOORS
from weir.settings.shared import KafkaSettings

START_SECONDS = 30
KEY = "contract-write-key-of-32-letters"
SECRET = "contract-signing-secret"
SOURCE = "contract"
# Of the source that the session's gateway knows from the start.
CONTRACT = Source(
    id=SOURCE,
    workspace="acme",
    dedup_window_seconds=60,
    allowed_origins=("https://a.example",),
    signing_secrets=(SECRET,),
    unsigned_doors=tuple(sorted(DOORS - {"suprsend"})),
    sites=("shop.example",),
)


@dataclass
class HttpAnswer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class RunningGateway:
    """A gateway that is ready, and its broker's address."""

    process: RunningProcess
    port: int
    kafka: KafkaSettings
    trust: ssl.SSLContext | None = None  # of a gateway that serves TLS

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return HttpAnswer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        if self.trust is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.trust)

    def post(self, key: str, body: bytes, **headers: str) -> HttpAnswer:
        return self.ask(
            "POST",
            "/v1/events",
            body,
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers},
        )

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz").status == 200
        except OSError:
            return False

    def knows(self, key: str) -> bool:
        """Whether the gateway has read the registry's entry of a key: 401 until then."""
        return self.post(key, b"[]").status == 400


def start_gateway(
    bootstrap: str,
    folder: Path,
    *,
    ready: bool = True,
    arguments: Sequence[str] = (),
    trust: ssl.SSLContext | None = None,
    **settings: str,
) -> RunningGateway:
    """Ready on return, unless `ready` is false: then it only answers."""
    port = free_port()
    environ = bare_environ(
        WEIR_KAFKA_BOOTSTRAP=bootstrap,
        WEIR_GATEWAY_PORT=str(port),
        WEIR_DATA_DIR=str(folder),
        **settings,
    )
    process = start_process(
        [sys.executable, "-m", "weir.gateway", *arguments],
        folder / f"gateway-{port}.log",
        environ,
    )
    gateway = RunningGateway(process, port, KafkaSettings(kafka_bootstrap=bootstrap), trust)

    def answers() -> bool:
        if not process.running:
            raise RuntimeError(f"the gateway ended at start:\n{process.said()}")
        if ready:
            return gateway.is_ready()
        try:
            return gateway.ask("GET", "/livez").status == 200
        except OSError:
            return False

    try:
        wait_until(answers, START_SECONDS, "the gateway")
    except BaseException:
        process.kill()
        raise
    return gateway


def make_topics(bootstrap: str) -> None:
    apply_topics(KafkaSettings(kafka_bootstrap=bootstrap))


def declare(bootstrap: str, key: str, source: Source) -> None:
    """Durable on return: the source is in the registry, with a key given in plain."""
    settings = KafkaSettings(kafka_bootstrap=bootstrap)
    keyed = msgspec.structs.replace(source, write_key_hashes=(hash_key(key),))
    entry = {
        "kind": "source",
        "id": source.id,
        "document": msgspec.json.encode(keyed).decode(),
        "updated_at": int(time.time() * 1000),
    }
    value = avro.schemas()["RegistryEntry"].encode(entry)
    write_entries(settings, topics.REGISTRY, [(registry_key("source", source.id), value)])


def write_quota(bootstrap: str, source: str, **quota: Any) -> None:
    """What the rates service would write of one quota of a source."""
    use = {"period": "hour", "unit": "events", "limit": 10, "action": "reject", **quota}
    record = {
        "source": source,
        "updated_at": int(time.time() * 1000),
        "windows": [],
        "quotas": [use],
        "current_rate": 0.0,
        "peak_rate": 0.0,
        "peak_at": 0,
        "recent_seconds": [],
    }
    value = avro.schemas()["SourceUsage"].encode(record)
    settings = KafkaSettings(kafka_bootstrap=bootstrap)
    write_entries(settings, topics.QUOTAS, [(source.encode(), value)])


@dataclass(frozen=True)
class Written:
    """A record as a consumer finds it."""

    key: bytes
    value: bytes
    timestamp: int


class TopicReader:
    """Everything written to a topic since the reader was made."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False}
        )
        partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        places = []
        for partition in partitions:
            place = TopicPartition(topic, partition)
            place.offset = self._consumer.get_watermark_offsets(place, timeout=10)[1]
            places.append(place)
        self._consumer.assign(places)
        self._read: list[Written] = []

    def wait_for(self, wanted: Callable[[Written], bool], count: int) -> list[Written]:
        """At least `count` records that are wanted, read within 20 s."""

        def found() -> list[Written]:
            for record in self._consumer.consume(1_000, 0.1):
                assert record.error() is None
                self._read.append(
                    Written(record.key() or b"", record.value() or b"", record.timestamp()[1])
                )
            return [record for record in self._read if wanted(record)]

        wait_until(lambda: len(found()) >= count, 20, f"{count} records")
        return found()

    def close(self) -> None:
        self._consumer.close()


def new_source(gateway: RunningGateway, **fields: Any) -> tuple[str, str]:
    """A source of a test's own that the gateway knows: its id and its key."""
    source = f"source-{uuid.uuid4().hex[:8]}"
    key = f"key-of-{source}"
    declare(gateway.kafka.bootstrap(), key, Source(id=source, **fields))
    wait_until(lambda: gateway.post(key, b"[]").json()["code"] != "unauthorized", 10, "the source")
    return source, key


def metrics(gateway: RunningGateway) -> str:
    return gateway.ask("GET", "/metrics").body.decode()


def connect(gateway: RunningGateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=20)


def receive_all(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received


HEAD = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Weir-Key: {KEY}\r\n".encode()
