"""Each record that a real broker refuses becomes a dead letter; all others pass exactly once."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from tests.support.events import accepted, accepted_output
from tests.support.running import RunningKafka, wait_until
from tests.support.running_gateway import make_topics
from weir.adapters import avro, usage_records
from weir.adapters.dead_letters import worker_letters
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.clients import client_options, write_entries
from weir.adapters.kafka.partition_reader import PartitionReader
from weir.adapters.kafka.record_limits import LimitsFollower, read_limits
from weir.adapters.kafka.stream import KafkaStream, StreamOptions
from weir.adapters.rocksdb import RocksStores
from weir.core import reasons, topics
from weir.core.record_limits import RECORD_BYTES, LimitsInForce, RecordLimits
from weir.core.stages import DEDUP
from weir.dedup.stage import DedupStage
from weir.runtime.changelog import PackedChangelog
from weir.runtime.deciding import AccountEncoders
from weir.runtime.ports import StreamBrokenError
from weir.runtime.worker import Worker
from weir.settings.shared import KafkaSettings

LOW = 20_000
PARTITIONS = range(4)


class StaleLimits:
    """Limits that were read before somebody changed the topic, and cannot be read again."""

    present = RecordLimits()

    def refresh(self) -> bool:
        return False


@pytest.fixture
def kafka(empty_kafka: RunningKafka) -> KafkaSettings:
    make_topics(empty_kafka.bootstrap)
    return KafkaSettings(kafka_bootstrap=empty_kafka.bootstrap)


def run(kafka: KafkaSettings, folder: Path, limits: LimitsInForce, until: int) -> None:
    """Until dead letters and events passed on are so many."""
    options = StreamOptions(DEDUP.name, topics.ACCEPTED, 0, writes=DEDUP.writes, session_seconds=6)
    worker = Worker(
        DedupStage(),
        KafkaStream(kafka, options, limits),
        RocksStores(folder / "state"),
        PackedChangelog(topics.DEDUP_STATE),
        AccountEncoders(usage_records.encode_usage, worker_letters),
        limits,
    )
    settled = 0

    def turned() -> bool:
        nonlocal settled
        settled += worker.turn(0.1)
        return settled >= until

    try:
        wait_until(turned, 60, "the records")
    finally:
        worker.close()


def starts_again(kafka: KafkaSettings, folder: Path) -> bool:
    """As a supervisor does it: the broker may still be ending the transaction of the process before."""
    try:
        run(kafka, folder, StaleLimits(), 2)
    except StreamBrokenError:
        return False
    return True


def records(kafka: KafkaSettings, topic: str) -> Iterable[avro.AvroRecord]:
    reader = PartitionReader(client_options(kafka), 10)
    for message in reader.read_to_end([TopicPartition(topic, p, 0) for p in PARTITIONS]):
        yield avro.decode_any(message.value() or b"")[1]


def keys(kafka: KafkaSettings, topic: str) -> list[str]:
    return sorted(event["idempotency_key"] for event in records(kafka, topic))


def lower(kafka: KafkaSettings, topic: str, **config: str) -> None:
    KafkaAdmin(kafka).configure(
        topic, {name.replace("_", "."): said for name, said in config.items()}
    )


def send(kafka: KafkaSettings, **properties: str) -> None:
    """Events by their idempotency key, and what their properties hold."""
    events = [
        accepted(number, idempotency_key=key, properties=f'{{"p":"{said}"}}')
        for number, (key, said) in enumerate(properties.items())
    ]
    write_entries(kafka, topics.ACCEPTED, [accepted_output(event) for event in events])


def test_only_a_record_over_a_lowered_topic_limit_becomes_a_dead_letter(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    """The other records pass, although their whole batch exceeds the topic's limit, too."""
    limits = LimitsFollower(kafka, "dedup")
    limits.refresh()
    lower(kafka, topics.UNIQUE, max_message_bytes=str(LOW))
    wait_until(lambda: read_limits(kafka).low(), 10, "the topic's configuration")
    good = {f"good{n:03}": "x" * 500 for n in range(200)}
    send(kafka, **good, large="y" * 2 * LOW)
    run(kafka, tmp_path, limits, 201)
    assert keys(kafka, topics.UNIQUE) == sorted(good)
    (letter,) = records(kafka, topics.DEAD)
    assert letter["reason"] == reasons.TOO_LARGE
    assert topics.UNIQUE in letter["detail"]
    assert avro.decode_any(letter["value"])[1]["idempotency_key"] == "large"


def test_a_record_refused_by_the_broker_is_found_by_halving_the_batch(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    lower(kafka, topics.UNIQUE, max_message_bytes="1100000")
    good = {f"good{n:02}": "x" for n in range(20)}
    send(kafka, **good, bad="y" * 2_000_000)
    run(kafka, tmp_path, StaleLimits(), 21)
    assert keys(kafka, topics.UNIQUE) == sorted(good)
    (letter,) = records(kafka, topics.DEAD)
    assert letter["reason"] == reasons.REFUSED_BY_KAFKA
    counted = {delta["outcome"]: 0 for delta in records(kafka, topics.USAGE)}
    for delta in records(kafka, topics.USAGE):
        counted[delta["outcome"]] += delta["events"]
    assert counted == {"accepted": 21, "unique": 20, "dead": 1}


def test_no_dead_letters_are_written_while_brokers_refuse_every_record(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    # room for a transaction's marker (78 bytes), and for no record with a key
    lower(kafka, topics.UNIQUE, max_message_bytes="80")
    wait_until(lambda: read_limits(kafka).low(), 10, "the topic's configuration")
    send(kafka, one="x", two="y")
    with pytest.raises(StreamBrokenError, match="brokers refuse every record"):
        run(kafka, tmp_path, StaleLimits(), 2)
    assert not list(records(kafka, topics.DEAD))
    lower(kafka, topics.UNIQUE, max_message_bytes="1000000")
    wait_until(lambda: starts_again(kafka, tmp_path), 60, "the broker to end what was refused")
    assert keys(kafka, topics.UNIQUE) == ["one", "two"]


def test_foreign_records_become_dead_letters_with_whole_key_and_value(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    """This holds for the largest record, huge keys, an empty value and a tombstone."""
    largest = b"z" * (RECORD_BYTES - 10)
    outside = [
        (b"k", largest),
        (b"k" * 70_000, accepted_output(accepted(1)).value),
        (b"\xff" * 300_000, b"\xff"),
        (b"", b""),
        (b"gone", None),
    ]
    write_entries(kafka, topics.ACCEPTED, outside)
    send(kafka, good="x")
    run(kafka, tmp_path, StaleLimits(), 6)
    assert keys(kafka, topics.UNIQUE) == ["good"]
    letters = list(records(kafka, topics.DEAD))
    assert len(letters) == 5
    assert {letter["value"] for letter in letters} == {value or b"" for _, value in outside}
    assert {letter["key"] for letter in letters} == {key for key, _ in outside}
