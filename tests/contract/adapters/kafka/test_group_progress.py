"""Group progress counts records of open transactions as unread, so a group never passes them early."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.support.running import RunningKafka
from weir.adapters.kafka.admin import KafkaAdmin, Topic
from weir.adapters.kafka.group_progress import GroupProgress
from weir.settings.shared import KafkaSettings

Names = Callable[[str], str]
RECORDS = 5


@pytest.fixture
def admin(kafka: RunningKafka) -> Iterator[KafkaAdmin]:
    with closing(KafkaAdmin(KafkaSettings(kafka_bootstrap=kafka.bootstrap))) as admin:
        yield admin


@pytest.fixture
def topic(admin: KafkaAdmin, unique_name: Names) -> str:
    name = unique_name("in")
    admin.create([Topic(name, 1, 1)])
    return name


def transactional(kafka: RunningKafka, name: str) -> Producer:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": name})
    producer.init_transactions(30)
    return producer


def write(producer: Producer, topic: str) -> None:
    producer.begin_transaction()
    for _ in range(RECORDS):
        producer.produce(topic, b"value")
    assert producer.flush(30) == 0


def test_records_of_an_open_transaction_count_as_unread(
    kafka: RunningKafka, admin: KafkaAdmin, topic: str, unique_name: Names
) -> None:
    """Records count until the group's offset passes them, also between the commit and that offset."""
    passing, group = GroupProgress(admin), unique_name("group")
    producer = transactional(kafka, unique_name("producer"))
    write(producer, topic)
    ends = passing.ends([topic])
    assert passing.unread(group, ends) == RECORDS
    producer.commit_transaction(30)
    assert passing.unread(group, ends) == RECORDS
    with closing(Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})) as reader:
        reader.commit(offsets=[TopicPartition(topic, 0, RECORDS)], asynchronous=False)
    assert passing.unread(group, ends) == 0


def test_records_of_an_aborted_transaction_do_not_count_as_unread(
    kafka: RunningKafka, admin: KafkaAdmin, topic: str, unique_name: Names
) -> None:
    passing, group = GroupProgress(admin), unique_name("group")
    producer = transactional(kafka, unique_name("producer"))
    write(producer, topic)
    ends = passing.ends([topic])
    producer.abort_transaction(30)
    assert passing.unread(group, ends) == 0
