"""Records behind a foreign open transaction are reported as queued, and never as lost."""

import time
import uuid
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import uuid_utils
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.support.events import accepted, accepted_output
from tests.support.running import RunningKafka, free_port, wait_until
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.group_progress import GroupProgress
from weir.audit.unread_counts import UnreadCounter
from weir.cli.status_snapshot import GroupStatus, StatusCollector
from weir.cli.topics import apply_topics
from weir.core import topics
from weir.core.retention import RetentionPolicy
from weir.core.stages import DEDUP, IDENTITY
from weir.event_status.model import EventRows, EventStatus, decide
from weir.event_status.topic_records import TopicSearch
from weir.settings.shared import ClickHouseSettings, KafkaSettings

SECONDS = 30.0


class World:
    """A broker with Weir's topics, an event that dedup has settled, and a transaction before its record."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.kafka = kafka
        self.event_id = uuid.UUID(str(uuid_utils.uuid7()))
        self.now = time.time_ns() // 1_000_000
        self.event = accepted_output(
            accepted(1, event_id=self.event_id.bytes, received_at=self.now, user_id="ada")
        )
        self.write(topics.ACCEPTED)
        self._commit()
        self.foreign = Producer(
            {"bootstrap.servers": kafka.bootstrap(), "transactional.id": str(uuid.uuid4())}
        )
        self.foreign.init_transactions(SECONDS)
        self.foreign.begin_transaction()
        for partition in range(4):
            self.foreign.produce(topics.UNIQUE, b"garbage", b"x", partition)
        assert self.foreign.flush(SECONDS) == 0
        self.write(topics.UNIQUE)

    def write(self, topic: str) -> None:
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap(), "acks": "all"})
        producer.produce(topic, self.event.value, self.event.key, 1, timestamp=self.now)
        assert producer.flush(SECONDS) == 0

    def _commit(self) -> None:
        """Dedup has passed the event; identity has come to the beginning of its topic."""
        admin = KafkaAdmin(self.kafka)
        for stage, offset in ((DEDUP, 1), (IDENTITY, 0)):
            (topic,) = stage.reads
            topic_id = admin.topic_ids([topic])[topic]
            place = TopicPartition(topic, 1, offset, f"{topic_id} ")
            wait_until(partial(self._commits, stage.group, place), SECONDS, "the commit")
        admin.close()

    def _commits(self, group: str, place: TopicPartition) -> bool:
        """The groups' coordinator of a new broker is not there at once."""
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap(), "group.id": group})
        try:
            consumer.commit(offsets=[place], asynchronous=False)
        except KafkaException:
            return False
        finally:
            consumer.close()
        return True

    def where(self) -> EventStatus:
        with closing(TopicSearch(self.kafka, SECONDS)) as records:
            trail = records.of_event(self.event_id, self.now, None)
        return decide(str(self.event_id), EventRows(), trail)

    def where_by_key(self, key: str) -> EventStatus:
        with closing(TopicSearch(self.kafka, SECONDS)) as records:
            trail = records.of_key(key, None)
        return decide(key, EventRows(), trail)

    def unread(self) -> int:
        admin = KafkaAdmin(self.kafka)
        passing = GroupProgress(admin)
        try:
            return passing.unread(IDENTITY.group, passing.ends(IDENTITY.reads))
        finally:
            admin.close()


@pytest.fixture
def world(empty_kafka: RunningKafka) -> World:
    kafka = KafkaSettings(kafka_port=empty_kafka.port)
    apply_topics(kafka)
    return World(kafka)


def test_an_event_behind_an_open_transaction_is_queued_in_status_audit_and_lag(
    world: World, tmp_path: Path
) -> None:
    found = world.where()
    assert (found.fate, found.stage, found.certain) == ("queued", "identity", True)
    assert "behind an open transaction in events.unique" in found.advice
    assert world.where_by_key(str(uuid.UUID(bytes=accepted(1)["event_id"]))).fate == "queued"

    assert world.unread() > 0  # whoever waits until all is settled goes on waiting

    with closing(UnreadCounter(world.kafka)) as books:
        unread = books.unread(books.positions())[topics.UNIQUE]
    assert unread.cells is not None
    minute = world.now // 60_000 * 60
    assert unread.cells["shop", minute] == 1  # so the audit does not judge its minute
    assert unread.held == unread.records == 5  # with the four that hold it back

    group = held_by_look(world, tmp_path)
    assert (group.held, group.lag) == (5, 5)
    assert group.held_in == (topics.UNIQUE,)

    world.foreign.abort_transaction(SECONDS)
    found = world.where()
    assert (found.fate, found.stage) == ("queued", "identity")
    assert "open transaction" not in found.advice
    assert world.unread() == 1


def held_by_look(world: World, folder: Path) -> GroupStatus:
    clickhouse = ClickHouseSettings(clickhouse_url=f"http://127.0.0.1:{free_port()}")
    collector = StatusCollector(world.kafka, clickhouse, folder, RetentionPolicy(0.5, 0))
    try:
        first, second = collector.snapshot(), collector.snapshot()
    finally:
        collector.close()
    assert not any(group.held for group in first.groups)  # it may be a worker's own
    return next(group for group in second.groups if group.group == IDENTITY.group)


def test_an_event_accepted_behind_an_open_transaction_is_queued_for_dedup(world: World) -> None:
    """This is what an event meets behind a replay of dead letters that stands still."""
    foreign = Producer(
        {"bootstrap.servers": world.kafka.bootstrap(), "transactional.id": str(uuid.uuid4())}
    )
    foreign.init_transactions(SECONDS)
    foreign.begin_transaction()
    foreign.produce(topics.ACCEPTED, b"garbage", b"x", 1)
    assert foreign.flush(SECONDS) == 0
    world.event_id = uuid.UUID(str(uuid_utils.uuid7()))
    event = accepted(2, event_id=world.event_id.bytes, idempotency_key="k", received_at=world.now)
    world.event = accepted_output(event)
    world.write(topics.ACCEPTED)
    for found in (world.where(), world.where_by_key("k")):
        assert (found.fate, found.stage) == ("queued", "dedup")
        assert "behind an open transaction in events.accepted" in found.advice
    foreign.abort_transaction(SECONDS)
    world.foreign.abort_transaction(SECONDS)
