"""The settled reader returns only committed records below a group's offset, in chunks of offsets."""

import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.support.running import RunningKafka
from weir.adapters.kafka.admin import KafkaAdmin, Topic
from weir.adapters.kafka.group_progress import GroupProgress
from weir.backfill.settled_reader import CHUNK_OFFSETS, SettledReader
from weir.settings.shared import KafkaSettings

Names = Callable[[str], str]
COUNT = 2 * CHUNK_OFFSETS + 500
APART = 100  # milliseconds


@pytest.fixture
def settings(kafka: RunningKafka) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap=kafka.bootstrap)


@pytest.fixture
def begin() -> int:
    """Epoch milliseconds: now, for transactions' markers have their own time, soon after."""
    return time.time_ns() // 1_000_000


@pytest.fixture
def topic(settings: KafkaSettings, unique_name: Names, begin: int) -> str:
    """One partition: `COUNT` records, of which those from 100 to 199 were aborted."""
    name = unique_name("in")
    admin = KafkaAdmin(settings)
    admin.create([Topic(name, 1, 1, {"retention.ms": "-1"})])
    admin.close()
    options = {"bootstrap.servers": settings.bootstrap(), "transactional.id": unique_name("id")}
    producer = Producer(options)
    producer.init_transactions(20)
    for start, end, commit in ((0, 100, True), (100, 199, False), (199, COUNT - 3, True)):
        producer.begin_transaction()
        for number in range(start, end):
            producer.produce(name, b"%d" % number, b"key", timestamp=begin + APART * number)
        producer.flush(20)
        (producer.commit_transaction if commit else producer.abort_transaction)(20)
    return name


@pytest.fixture
def history(settings: KafkaSettings, unique_name: Names) -> Iterator[SettledReader]:
    reading = SettledReader(settings, unique_name("group"))
    yield reading
    reading.close()


def commit_position(
    settings: KafkaSettings, group: str, topic: str, position: int, metadata: str = ""
) -> None:
    member = Consumer({"bootstrap.servers": settings.bootstrap(), "group.id": group})
    place = TopicPartition(topic, 0, position, metadata)
    member.commit(offsets=[place], asynchronous=False)
    member.close()


def test_a_group_without_offsets_has_no_settled_spans(history: SettledReader, topic: str) -> None:
    assert history.spans(topic, None) == []


def test_committed_records_below_the_group_offset_are_read_in_chunks(
    settings: KafkaSettings, history: SettledReader, topic: str, unique_name: Names
) -> None:
    commit_position(settings, unique_name("group"), topic, COUNT - 100)
    (span,) = history.spans(topic, None)
    assert (span.start, span.end) == (0, COUNT - 100)
    read = list(history.chunks(span))
    assert [chunk.start for chunk in read] == [0, CHUNK_OFFSETS, 2 * CHUNK_OFFSETS]
    offsets = [at for chunk in read for at in chunk.records.offsets]
    markers = {100, 200}
    aborted = set(range(101, 200))
    assert offsets == [at for at in range(COUNT - 100) if at not in markers | aborted]
    for chunk in read:
        assert all(chunk.start <= at < chunk.end for at in chunk.records.offsets)


def test_settled_records_are_read_from_a_given_timestamp_on(
    settings: KafkaSettings, history: SettledReader, topic: str, begin: int, unique_name: Names
) -> None:
    commit_position(settings, unique_name("group"), topic, COUNT)
    (span,) = history.spans(topic, begin + APART * 3_000)
    assert span.start == 3002
    (first, *_) = history.chunks(span)
    assert first.records.values[0] == b"3000"
    assert (first.start, first.end) == (CHUNK_OFFSETS, 2 * CHUNK_OFFSETS)
    assert history.spans(topic, begin + APART * (COUNT + 10)) == []


def test_a_recreated_topic_has_no_settled_spans(
    settings: KafkaSettings, history: SettledReader, topic: str, unique_name: Names
) -> None:
    """The group's offset does not count: it belongs to the deleted topic of the same name."""
    commit_position(settings, unique_name("group"), topic, 100, "another-topics-id {}")
    assert history.spans(topic, None) == []
    commit_position(settings, unique_name("group"), topic, COUNT + 10)
    assert history.spans(topic, None) == []
    admin = KafkaAdmin(settings)
    topic_id = admin.topic_ids([topic])[topic]
    passing = GroupProgress(admin)
    ends = passing.ends([topic])
    commit_position(settings, unique_name("group"), topic, 100, "another-topics-id")
    assert passing.unread(unique_name("group"), ends) > 0
    commit_position(settings, unique_name("group"), topic, COUNT, f"{topic_id} {{}}")
    assert passing.unread(unique_name("group"), ends) == 0
    admin.close()
    (span,) = history.spans(topic, None)
    assert (span.topic_id, span.end) == (topic_id, COUNT)


def test_settled_records_are_read_up_to_given_end_offsets(
    history: SettledReader, topic: str
) -> None:
    (span,) = history.spans(topic, None, {(topic, 0): 50})
    assert (span.start, span.end) == (0, 50)


def test_a_table_topic_is_read_whole_without_aborted_records(
    history: SettledReader, topic: str
) -> None:
    records = list(history.table(topic))
    assert [(partition, key) for partition, key, _ in records] == [(0, b"key")] * len(records)
    assert [value for *_, value in records] == [
        b"%d" % n for n in range(COUNT - 3) if not 100 <= n < 199
    ]
