"""One oversized event never stops another event: records at and beyond their limits on a real broker."""

import json
from collections.abc import Iterator

import pytest

from tests.support.running import ending_well, start_kafka, wait_until
from tests.support.running_gateway import (
    KEY,
    SOURCE,
    RunningGateway,
    TopicReader,
    declare,
    make_topics,
    start_gateway,
)
from weir.adapters import avro
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.record_limits import LimitsFollower, read_limits
from weir.adapters.kafka.sink_records import KafkaDeadLetters
from weir.core import topics
from weir.core.record_limits import EVENT_BYTES
from weir.core.registry import Source
from weir.runtime.sink_ports import DeadLettersFailedError, DeadRecord, PartitionId
from weir.settings.shared import KafkaSettings

LOW = 20_000


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    broker = start_kafka(tmp_path_factory.mktemp("kafka"))
    try:
        make_topics(broker.bootstrap)
        yield KafkaSettings(kafka_bootstrap=broker.bootstrap)
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def gateway(
    kafka: KafkaSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    declare(kafka.bootstrap(), KEY, Source(id=SOURCE))
    running = start_gateway(kafka.bootstrap(), tmp_path_factory.mktemp("gateway"))
    with ending_well(running.process):
        wait_until(lambda: running.knows(KEY), 10, "the source")
        yield running


@pytest.fixture
def low_topic(kafka: KafkaSettings) -> Iterator[str]:
    """events.accepted allows less than Weir needs, from the middle of the gateway's life on."""
    admin = KafkaAdmin(kafka)
    before = admin.configs([topics.ACCEPTED])[topics.ACCEPTED]["max.message.bytes"]
    admin.configure(topics.ACCEPTED, {"max.message.bytes": str(LOW)})
    wait_until(lambda: read_limits(kafka).low(), 10, "the topic's configuration")
    yield topics.ACCEPTED
    admin.configure(topics.ACCEPTED, {"max.message.bytes": before})


def test_created_topics_allow_the_record_sizes_that_weir_needs(kafka: KafkaSettings) -> None:
    limits = read_limits(kafka)
    assert not limits.low()
    assert limits.event == EVENT_BYTES


def test_an_event_too_large_with_its_batch_context_is_rejected_alone(
    gateway: RunningGateway,
) -> None:
    reader = TopicReader(gateway.kafka.bootstrap(), topics.REJECTED)
    context = {"b": "y" * EVENT_BYTES}
    large = gateway.post(
        KEY, json.dumps({"events": [{"event": "large"}], "context": context}).encode()
    )
    assert (large.status, large.json()["rejected"][0]["code"]) == (422, "too_large")
    assert gateway.post(KEY, b'{"event":"after"}').status == 202
    (written,) = reader.wait_for(lambda record: b"too_large" in record.value, 1)
    _, record = avro.decode_any(written.value)
    assert json.loads(record["payload"])["context"] == context
    reader.close()


def test_an_event_beyond_a_lowered_topic_limit_is_rejected_without_its_batch(
    gateway: RunningGateway, low_topic: str
) -> None:
    """Only the large event is rejected, although the broker refuses the whole batch that holds it."""
    small = [{"event": "a", "properties": {"p": "x" * 500}} for _ in range(200)]
    large = {"event": "large", "properties": {"p": "x" * 2 * LOW}}
    answer = gateway.post(KEY, json.dumps([*small[:100], large, *small[100:]]).encode())
    reply = answer.json()
    assert (answer.status, reply["accepted"]) == (202, 200)
    assert [(one["index"], one["code"]) for one in reply["rejected"]] == [(100, "too_large")]
    alone = gateway.post(KEY, json.dumps(large).encode())
    assert alone.status == 422
    assert low_topic in alone.json()["rejected"][0]["message"]


def test_the_sinks_dead_letter_drops_its_value_when_the_topic_limit_is_lowered(
    kafka: KafkaSettings,
) -> None:
    admin = KafkaAdmin(kafka)
    before = admin.configs([topics.DEAD])[topics.DEAD]["max.message.bytes"]
    letters = KafkaDeadLetters(kafka, LimitsFollower(kafka, "sink"))
    reader = TopicReader(kafka.bootstrap(), topics.DEAD)
    record = DeadRecord(
        PartitionId(topics.USAGE, 1), 7, b"key", bytes(200_000), 9, "refused", "why"
    )
    admin.configure(topics.DEAD, {"max.message.bytes": "100000"})
    try:
        wait_until(lambda: read_limits(kafka).low(), 10, "the topic's configuration")
        with pytest.raises(DeadLettersFailedError):
            letters.write([record])  # it does not know yet, and learns from the refusal
        assert letters.write([record]) == 1
        (written,) = reader.wait_for(lambda _: True, 1)
    finally:
        admin.configure(topics.DEAD, {"max.message.bytes": before})
        reader.close()
    _, letter = avro.decode_any(written.value)
    assert (letter["value"], letter["origin_offset"], letter["reason"]) == (b"", 7, "refused")
    assert "BLAKE2b" in letter["detail"]
