"""A member's lag matches a real broker's offsets, whatever transactions are open."""

from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from tests.contract.adapters.kafka.test_stream import (
    PARTITIONS,
    PATIENCE,
    OnKafka,
    begin,
    next_batch,
)
from tests.support.running import RunningKafka, wait_until
from weir.runtime.ports import Stream
from weir.settings.shared import KafkaSettings


@pytest.fixture
def broker(kafka: RunningKafka, unique_name: Callable[[str], str]) -> OnKafka:
    return OnKafka(KafkaSettings(kafka_bootstrap=kafka.bootstrap), unique_name)


@pytest.fixture
def writer(broker: OnKafka) -> Producer:
    """Of transactions."""
    producer = Producer(
        {
            "bootstrap.servers": broker.settings.bootstrap(),
            "transactional.id": broker.name("writer"),
        }
    )
    producer.init_transactions(PATIENCE)
    return producer


def write(producer: Producer, topic: str, count: int) -> None:
    """In a transaction that is left open."""
    producer.begin_transaction()
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=0)
    assert producer.flush(PATIENCE) == 0


def lag_becomes(stream: Stream, lag: dict[int, int]) -> None:
    def is_so() -> bool:
        stream.poll(0.1)
        return stream.lag() == lag

    wait_until(is_so, PATIENCE, f"a lag of {lag}")


def test_records_of_an_open_transaction_count_as_lag_until_read(
    broker: OnKafka, writer: Producer
) -> None:
    stream = broker.stream()
    begin(stream)
    lag_becomes(stream, {0: 0})  # told of an empty partition, too
    write(writer, broker.name("in"), 5)
    lag_becomes(stream, {0: 5})
    writer.commit_transaction(PATIENCE)
    assert len(next_batch(stream)) == 5
    lag_becomes(stream, {0: 0})  # the marker of the transaction is no record
    stream.close()


def test_records_of_an_aborted_transaction_do_not_count_as_lag(
    broker: OnKafka, writer: Producer
) -> None:
    stream = broker.stream()
    begin(stream)
    write(writer, broker.name("in"), 5)
    lag_becomes(stream, {0: 5})
    writer.abort_transaction(PATIENCE)
    lag_becomes(stream, {0: 0})
    stream.close()


def test_lag_is_reported_for_an_assigned_partition_before_its_reading_starts(
    broker: OnKafka, writer: Producer
) -> None:
    """Lag is known while a partition is paused, as it is until its state is restored."""
    write(writer, broker.name("in"), 5)
    writer.commit_transaction(PATIENCE)
    stream = broker.stream()

    def is_assigned() -> bool:
        stream.poll(0.1)
        return 0 in stream.assignment().gained

    wait_until(is_assigned, PATIENCE, "the partition")
    assert stream.lag() == {0: 6}  # the marker is not known for what it is yet
    stream.close()


def test_each_partitions_lag_is_reported_by_its_owner_alone(broker: OnKafka) -> None:
    members = [broker.stream("wide", 0)]

    def owned() -> list[int]:
        for member in members:
            member.poll(0.05)
            for partition in member.assignment().gained:
                member.start(partition)
        return sorted(partition for member in members for partition in member.lag())

    everything = list(range(PARTITIONS))
    wait_until(lambda: owned() == everything, PATIENCE, "all of them")
    members.append(broker.stream("wide", 1))
    wait_until(lambda: owned() == everything and members[1].lag(), PATIENCE, "some of them each")
    assert set(members[0].lag().values()) == set(members[1].lag().values()) == {0}
    for member in members:
        member.close()
