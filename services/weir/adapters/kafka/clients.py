"""Options of Kafka clients (confluent-kafka), and readers and writers of small topics."""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from weir.adapters.kafka.retry import retry
from weir.core.record_limits import MAX_TOPIC_BYTES
from weir.settings.shared import KafkaSettings

# A consumer reports every fatal error with the code `_FATAL`; only its text has the reason.
REPLACED = KafkaError(KafkaError.FENCED_INSTANCE_ID).str()
HEARTBEAT_SECONDS = 1.0
SPREADING_SECONDS = 3.0  # until every broker knows a topic that was just created

Entry = tuple[bytes, bytes | None]


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return the options that every client starts from. The operator's own options take precedence."""
    return {
        "bootstrap.servers": settings.bootstrap(),
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 1_000,
        # By default librdkafka forgets all brokers when none answers, and starts again from the bootstrap servers.
        # A transactional producer then waits for ever for the forgotten coordinator of its group, once the
        # brokers are back (confluentinc/librdkafka#5511). Without it, the known brokers are tried again.
        "metadata.recovery.strategy": "none",
        # consumers get records of any size regardless: brokers always send the first batch whole (KIP-74)
        "message.max.bytes": MAX_TOPIC_BYTES,
        **_security(settings),
        **(settings.kafka_options or {}),
    }


def admin_client(options: Mapping[str, Any]) -> AdminClient:
    """Return a new client for administration requests that pauses between connection attempts to a dead broker.

    By default librdkafka connects only to the brokers that a request needs. While such a request waits for one
    certain broker (a partition's leader, the controller) that refuses connections, librdkafka connects again
    without a pause, about a thousand times a second, and takes most of a core. With connections to all brokers
    it pauses `reconnect.backoff.ms` and longer between attempts.
    """
    return AdminClient({"enable.sparse.connections": False, **options})


def _security(settings: KafkaSettings) -> dict[str, str]:
    """Return the options for encryption and login; only those that are set, so that others keep their defaults."""
    options = {"security.protocol": settings.kafka_security_protocol.lower()}
    if settings.logs_in:
        options |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_username,
            "sasl.password": settings.kafka_password,
        }
    if settings.is_encrypted:
        files = {
            "ssl.ca.location": settings.kafka_ca_file,
            "ssl.certificate.location": settings.kafka_cert_file,
            "ssl.key.location": settings.kafka_key_file,
        }
        options |= {name: str(path) for name, path in files.items() if path is not None}
        if settings.kafka_key_password:
            options["ssl.key.password"] = settings.kafka_key_password
    return options


def group_options(
    group: str, member: str, session_seconds: int, fetch_kilobytes: int
) -> dict[str, Any]:
    """Return the consumer options of a group member: static membership, committed reads, no auto-commit.

    The classic protocol, because a static member that returns after kill -9 gets its place back at once.
    Eager assignment, because every assignment must be a complete one (docs/decisions/0001-classic-groups.md):
    a rebalance revokes all partitions of all members and assigns all of them again.
    """
    return {
        "group.id": group,
        "group.instance.id": member,
        "partition.assignment.strategy": "range",
        "session.timeout.ms": session_seconds * 1000,
        # members learn of a rebalance from their heartbeat, and the rebalance waits for the last of them
        "heartbeat.interval.ms": int(HEARTBEAT_SECONDS * 1000),
        "max.poll.interval.ms": 600_000,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "queued.max.messages.kbytes": fetch_kilobytes,
        "fetch.wait.max.ms": 1_000,
        # after a full queue, continue to fetch at once: the default pause is one second
        "fetch.queue.backoff.ms": 10,
        "fetch.min.bytes": 1,
    }


def is_replaced(error: KafkaError) -> bool:
    """Check whether the error says that another consumer has joined the group in this consumer's slot.

    The other one may be the consumer itself: if a response of the group coordinator is lost, for example
    because that broker dies, the member joins again and its former membership gets this error.
    """
    fatal = error.code() == KafkaError._FATAL and REPLACED in error.str()
    return fatal or error.code() == KafkaError.FENCED_INSTANCE_ID


def is_fatal(error: KafkaError) -> bool:
    """Check whether the error makes the client unusable."""
    return bool(error.fatal()) or error.code() == KafkaError._FATAL


UNCOMMITTED = {"isolation.level": "read_uncommitted"}


def lone_options(settings: KafkaSettings, rest_ms: int) -> dict[str, Any]:
    """Return the options of a consumer outside any group, which reads whole topics and commits nothing.

    `rest_ms`: how long a broker without new records delays its response. The end of a partition is noticed
    only then, so a reader that reads once needs a short time, and one that follows for hours a long one.
    """
    return {
        **client_options(settings),
        "group.id": f"weir.table.{uuid.uuid4()}",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": rest_ms,
        "queued.max.messages.kbytes": 4_096,
    }


def partitions_of(consumer: Consumer, topic: str, timeout: float) -> set[int]:
    """Return the numbers of a topic's partitions; `KafkaException` if the topic or the broker is missing.

    A topic counts as missing after SPREADING_SECONDS: a broker may learn late of one that was just created.
    """

    def ask() -> set[int]:
        metadata = consumer.list_topics(topic, timeout=timeout).topics[topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        return set(metadata.partitions)

    return retry(ask, KafkaException, is_unknown_topic, min(timeout, SPREADING_SECONDS))


def is_unknown_topic(fault: KafkaException) -> bool:
    """Check whether a broker said that it does not know the topic, or not yet."""
    return bool(fault.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART)


class TableReader:
    """Reads a compacted topic from its beginning and then follows it. `rest_ms`: see `lone_options`."""

    def __init__(self, settings: KafkaSettings, topic: str, rest_ms: int = 1_000) -> None:
        self._topic = topic
        self._consumer = Consumer(lone_options(settings, rest_ms))
        self._at_end: set[int] = set()
        self._partitions: set[int] = set()

    def read_all(self, apply: Callable[[bytes, bytes | None], None], timeout: float = 30) -> None:
        """Apply every (key, value) up to the present end of the topic; `KafkaException` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        self._assign(timeout)
        while self._at_end < self._partitions:
            if time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"reading {self._topic}"))
            for key, value in self.poll(0.2):
                apply(key, value)

    def poll(self, timeout: float) -> list[Entry]:
        """Return new (key, value) entries, value None for a deletion. Waits at most `timeout` seconds."""
        if not self._partitions:
            self._assign(10)
        entries: list[Entry] = []
        for message in self._consumer.consume(1_000, timeout):
            if self._is_record(message):
                entries.append((message.key() or b"", message.value()))
        return entries

    def close(self) -> None:
        self._consumer.close()

    def _assign(self, timeout: float) -> None:
        if self._partitions:
            return
        self._partitions = partitions_of(self._consumer, self._topic, timeout)
        self._consumer.assign(
            [TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in self._partitions]
        )

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            self._at_end.add(message.partition())
            return False
        return is_record(message)


class TailReader:
    """Reads the records written to a topic after `start`, each as soon as it is committed."""

    def __init__(self, settings: KafkaSettings, topic: str, rest_ms: int = 1_000) -> None:
        self._topic = topic
        self._consumer = Consumer(lone_options(settings, rest_ms))

    def start(self, timeout: float) -> None:
        """Start at the present end; everything written after the return is read. `KafkaException` after `timeout`."""
        places = []
        for partition in partitions_of(self._consumer, self._topic, timeout):
            place = TopicPartition(self._topic, partition)
            # fetched here, because the first fetch of the consumer would take the end at a later time
            _, place.offset = self._consumer.get_watermark_offsets(place, timeout)
            places.append(place)
        self._consumer.assign(places)

    def poll(self, timeout: float) -> list[Entry]:
        """Return the entries that are there, or the first that arrive within `timeout` seconds."""
        first = self._consumer.poll(timeout)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(1_000, 0)]
        return [(m.key() or b"", m.value()) for m in messages if is_record(m)]

    def close(self) -> None:
        self._consumer.close()


def is_record(message: Message) -> bool:
    """Check whether the message is a record, not an error event; `KafkaException` if the error is fatal."""
    error = message.error()
    if error is not None and error.fatal():
        raise KafkaException(error)
    return error is None


def write_entries(
    settings: KafkaSettings, topic: str, entries: Iterable[Entry], timeout: float = 30
) -> None:
    """Write entries durably: on return, all are on all in-sync replicas. `KafkaException` otherwise."""
    producer = Producer({**client_options(settings), "acks": "all", "enable.idempotence": True})
    faults: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            faults.append(error)

    for key, value in entries:
        producer.produce(topic, value, key, on_delivery=delivered)
    if producer.flush(timeout):
        raise KafkaException(KafkaError(KafkaError._MSG_TIMED_OUT, f"writing {topic}"))
    if faults:
        raise KafkaException(faults[0])
