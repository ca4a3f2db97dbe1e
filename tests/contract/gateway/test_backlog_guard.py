"""The gateway warns of an old backlog, refuses events before data loss, and recovers once read."""

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.support import records as rows
from tests.support.events import accepted
from tests.support.running import RunningKafka, start_kafka, wait_until
from tests.support.running_gateway import (
    CONTRACT,
    KEY,
    SOURCE,
    RunningGateway,
    TopicReader,
    declare,
    make_topics,
    metrics,
    start_gateway,
)
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.clients import write_entries
from weir.adapters.kafka.partition_reader import PartitionReader
from weir.adapters.kafka.positions import KeptPosition
from weir.adapters.kafka.retention import KafkaRetention
from weir.cli.main import cli
from weir.core import topics
from weir.core.registry import Source
from weir.core.retention import ALL
from weir.core.stages import GROUPS
from weir.settings.shared import KafkaSettings

HOUR_MS = 3_600_000
RETENTION_MS = 168 * HOUR_MS
DEDUP, IDENTITY = "weir.dedup", "weir.identity"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKafka]:
    """One of this module's own: its backlogs would have every other gateway refuse."""
    running = start_kafka(tmp_path_factory.mktemp("retention"))
    try:
        make_topics(running.bootstrap)
        declare(running.bootstrap, KEY, CONTRACT)
        yield running
    finally:
        running.kill()


@pytest.fixture
def kafka(broker: RunningKafka) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap=broker.bootstrap)


def write(
    kafka: KafkaSettings,
    topic: str,
    partition: int,
    share: float,
    values: Sequence[bytes] = (b"old",),
    transactional: str = "",
) -> None:
    """Records that have used this share of their retention; in a transaction of that id, if any."""
    options = {"transactional.id": transactional} if transactional else {}
    producer = Producer({"bootstrap.servers": kafka.bootstrap(), **options})
    if transactional:
        producer.init_transactions(20)
        producer.begin_transaction()
    written = int(time.time() * 1000 - share * RETENTION_MS)
    for value in values:
        producer.produce(topic, value, partition=partition, timestamp=written)
    if transactional:
        producer.commit_transaction(20)
    assert producer.flush(20) == 0


def commit(kafka: KafkaSettings, group: str, places: list[TopicPartition]) -> None:
    options = {"bootstrap.servers": kafka.bootstrap(), "group.id": group}
    with closing(Consumer({**options, "enable.auto.commit": False})) as consumer:
        assert consumer.commit(offsets=places, asynchronous=False)


def ends(kafka: KafkaSettings, topic: str) -> dict[int, int]:
    with closing(KafkaAdmin(kafka)) as admin:
        lags = admin.lags({"nobody": [topic]})
    return {lag.partition: lag.end for lag in lags}


def read_all(kafka: KafkaSettings, group: str, topic: str) -> None:
    """As the group would: everything is committed on return."""
    commit(kafka, group, [TopicPartition(topic, p, end) for p, end in ends(kafka, topic).items()])


def delete_all(kafka: KafkaSettings, topic: str) -> None:
    """Every record that is in the topic now."""
    places = [TopicPartition(topic, number, end) for number, end in ends(kafka, topic).items()]
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap()})
    for deleted in admin.delete_records(places).values():
        deleted.result(20)


def share(kafka: KafkaSettings, group: str, topic: str) -> float:
    found = KafkaRetention(kafka, 0).measure(GROUPS)
    assert [(unread.group, unread.topic) for unread in found] == [
        (name, read) for name, reads in GROUPS.items() for read in reads
    ]
    return next(one.share for one in found if (one.group, one.topic) == (group, topic))


def test_the_retention_share_is_the_age_of_the_groups_oldest_unread_record(
    kafka: KafkaSettings,
) -> None:
    topic = topics.UNIQUE
    assert share(kafka, IDENTITY, topic) == 0  # nothing is there
    write(kafka, topic, 0, 0.7)
    write(kafka, topic, 0, 0.3)
    write(kafka, topic, 1, 0.2)
    assert share(kafka, IDENTITY, topic) == pytest.approx(0.7, abs=0.01)  # nothing is committed
    commit(kafka, IDENTITY, [TopicPartition(topic, 0, 1)])
    assert share(kafka, IDENTITY, topic) == pytest.approx(0.3, abs=0.01)
    commit(kafka, IDENTITY, [TopicPartition(topic, 0, 2)])
    assert share(kafka, IDENTITY, topic) == pytest.approx(0.2, abs=0.01)
    read_all(kafka, IDENTITY, topic)
    assert share(kafka, IDENTITY, topic) == 0
    write(kafka, topic, 1, 0.0)
    assert share(kafka, IDENTITY, topic) == 0  # unread, and new


def test_transaction_markers_do_not_count_as_unread_records(kafka: KafkaSettings) -> None:
    """The share is 0 when only an old transaction marker follows the group's offset."""
    topic, name = topics.DUPLICATE, f"markers-{uuid.uuid4()}"
    write(kafka, topic, 0, 0.9, transactional=name)
    end = ends(kafka, topic)[0]
    assert end == 2
    assert share(kafka, "weir.sink", topic) == pytest.approx(0.9, abs=0.01)
    commit(kafka, "weir.sink", [TopicPartition(topic, 0, end - 1)])
    assert share(kafka, "weir.sink", topic) == 0


def test_positions_kept_by_workers_are_used_when_group_offsets_are_missing(
    kafka: KafkaSettings,
) -> None:
    topic = topics.USAGE
    write(kafka, topic, 2, 0.9)
    read_all(kafka, "weir.sink", topic)
    assert share(kafka, "weir.rates", topic) == pytest.approx(0.9, abs=0.01)
    options = {"bootstrap.servers": kafka.bootstrap()}
    topic_id = PartitionReader(options, 10).topic_ids([topic])[topic]
    for kept, expected in (
        (KeptPosition("another", 1), 0.9),  # of a topic that had this name before
        (KeptPosition(topic_id, 1), 0.0),
    ):
        producer = Producer(options)
        producer.produce(topics.POSITIONS, msgspec.json.encode(kept), b"rates/usage", partition=2)
        assert producer.flush(20) == 0
        assert share(kafka, "weir.rates", topic) == pytest.approx(expected, abs=0.01)


def test_compacted_topics_have_a_retention_share_of_0(kafka: KafkaSettings) -> None:
    write_entries(kafka, topics.PROFILES, [(b"key", b"value")])
    write(kafka, topics.PROFILES, 0, 5.0)
    assert share(kafka, "weir.sink", topics.PROFILES) == 0


def read_everything(kafka: KafkaSettings) -> None:
    for group, reads in GROUPS.items():
        for topic in reads:
            read_all(kafka, group, topic)


def events_of(source: str, count: int) -> list[bytes]:
    return [rows.encode("Accepted", **accepted(n, source=source)) for n in range(count)]


def heaviest_of(kafka: KafkaSettings, group: str, topic: str) -> tuple[str, ...]:
    found = KafkaRetention(kafka, 0.8).measure(GROUPS)
    return next(one.sources for one in found if (one.group, one.topic) == (group, topic))


def test_a_sample_finds_the_sources_with_most_of_the_old_unread_events(
    kafka: KafkaSettings,
) -> None:
    read_everything(kafka)
    topic = topics.ACCEPTED
    write(kafka, topic, 0, 0.84, events_of("early", 300))
    write(kafka, topic, 0, 0.83, events_of("flood", 3_000))
    write(kafka, topic, 0, 0.1, events_of("late", 300))
    write(kafka, topic, 1, 0.82, events_of("flood", 900), transactional="flood")
    write(kafka, topic, 1, 0.82, events_of("small", 200))
    write(kafka, topic, 2, 0.6, events_of("far", 9_000))  # they have their time
    assert heaviest_of(kafka, DEDUP, topic) == ("flood",)
    commit(kafka, DEDUP, [TopicPartition(topic, 0, ends(kafka, topic)[0] - 900)])
    write(kafka, topic, 0, 0.85, events_of("other", 1_000))
    assert heaviest_of(kafka, DEDUP, topic) == ("flood", "other")
    for partition in range(4):
        write(kafka, topic, partition, 0.81, [b"not ours"] * 2_000)
    assert heaviest_of(kafka, DEDUP, topic) == (ALL,)


def gauge(running: RunningGateway) -> float:
    name = f'weir_retention_share{{group="{DEDUP}",topic="{topics.ACCEPTED}"}} '
    lines = [line for line in metrics(running).splitlines() if line.startswith(name)]
    return float(lines[0].removeprefix(name)) if lines else -1.0


def refused(running: RunningGateway, source: str) -> bool:
    return f'weir_retention_refused{{source="{source}"}} 1.0' in metrics(running)


def reported_backlog(kafka: KafkaSettings, folder: Path) -> list[dict[str, object]]:
    environ = {"WEIR_KAFKA_BOOTSTRAP": kafka.bootstrap(), "WEIR_DATA_DIR": str(folder)}
    environ["WEIR_CLICKHOUSE_URL"] = "http://127.0.0.1:1"  # away: the backlog is told all the same
    result = CliRunner().invoke(cli, ["status", "--json"], env=environ)
    assert result.exit_code == 3, result.output
    found: list[dict[str, object]] = json.loads(result.stdout)["behind"]
    return found


def test_an_old_backlog_warns_then_refuses_events_until_the_group_reads_it(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    """A refused event is not stored; sent again with the same id, it is stored once."""
    read_everything(kafka)
    running = start_gateway(kafka.bootstrap(), tmp_path, WEIR_RETENTION_LOOK_SECONDS="0.2")
    reader = TopicReader(kafka.bootstrap(), topics.ACCEPTED)
    body = b'{"event":"late","id":"retention-1"}'
    try:
        wait_until(lambda: running.knows(KEY), 10, "the source")
        wait_until(lambda: gauge(running) == 0, 10, "the first look")

        write(kafka, topics.ACCEPTED, 3, 0.6)
        wait_until(lambda: gauge(running) > 0.59, 10, "the warning")
        assert running.post(KEY, b'{"event":"early"}').status == 202
        assert [(one["group"], one["topic"]) for one in reported_backlog(kafka, tmp_path)] == [
            (DEDUP, topics.ACCEPTED)
        ]

        read_all(kafka, DEDUP, topics.ACCEPTED)
        for partition in range(
            4
        ):  # that of the new event keeps its segment, and an older neighbour
            write(kafka, topics.ACCEPTED, partition, 0.85)
        wait_until(lambda: gauge(running) > 0.84, 10, "the refusal")
        answer = running.post(KEY, body)
        assert (answer.status, answer.json()["code"]) == (503, "backlog")
        assert answer.headers["Retry-After"] == "1"
        assert DEDUP in answer.json()["detail"]
        assert topics.ACCEPTED in answer.json()["detail"]
        assert running.post(KEY, b"not JSON").status == 503  # nor is it kept as rejected
        assert running.ask("POST", "/v1/batch", b"{}").status == 401  # whoever may not, hears that
        webhook = running.ask("POST", "/collect/late/contract", b"{}", {"X-Weir-Key": KEY})
        assert webhook.status == 503
        assert running.is_ready()  # it answers, and why

        before = ends(kafka, topics.ACCEPTED)
        read_all(kafka, DEDUP, topics.ACCEPTED)
        wait_until(lambda: gauge(running) == 0, 10, "the group to be seen ahead")
        assert ends(kafka, topics.ACCEPTED) == before
        assert running.post(KEY, body).status == 202
        found = reader.wait_for(lambda record: b"retention-1" in record.value, 1)
        assert len(found) == 1
        said = running.process.said()
        assert said.count("unread records are approaching their deletion") == 1
        assert said.count("events are rejected") == 1
        assert running.process.stop() == 0
    finally:
        running.process.kill()
        reader.close()


def test_only_the_flooding_source_is_refused_until_the_backlog_is_critical(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    read_everything(kafka)
    # young events of other tests, which stand before what is old here; outside of tests nothing does
    delete_all(kafka, topics.ACCEPTED)
    other = "another-write-key-of-32-letters.."
    declare(kafka.bootstrap(), other, Source(id="other"))
    running = start_gateway(kafka.bootstrap(), tmp_path, WEIR_RETENTION_LOOK_SECONDS="0.2")
    try:
        for key in (KEY, other):
            wait_until(partial(running.knows, key), 10, "the source")
        for partition in range(4):
            write(kafka, topics.ACCEPTED, partition, 0.82, events_of("other", 20))
            write(kafka, topics.ACCEPTED, partition, 0.82, events_of(SOURCE, 400))
        wait_until(lambda: refused(running, SOURCE), 10, "the refusal")
        answer = running.post(KEY, b'{"event":"late"}')
        assert (answer.status, answer.json()["code"]) == (503, "backlog")
        assert running.post(other, b'{"event":"late"}').status == 202
        assert not refused(running, ALL)
        (behind,) = reported_backlog(kafka, tmp_path)
        assert behind["refused"] == [SOURCE]

        read_everything(kafka)
        for partition in range(4):
            write(kafka, topics.ACCEPTED, partition, 0.95, events_of(SOURCE, 1))
        wait_until(lambda: refused(running, ALL), 10, "the refusal of all")
        assert running.post(other, b'{"event":"late"}').status == 503
        assert f"sources={SOURCE}" in running.process.said()

        again = start_gateway(
            kafka.bootstrap(), tmp_path, ready=False, WEIR_RETENTION_LOOK_SECONDS="600"
        )
        try:
            answers: list[str] = []

            def refuses() -> bool:
                answer = again.post(other, b'{"event":"late"}').json()
                answers.append(answer.get("code", "accepted"))
                return answers[-1] == "backlog"

            wait_until(refuses, 20, "the second gateway to refuse")
            assert set(answers) <= {"unavailable", "unauthorized", "backlog"}
            assert again.is_ready()
        finally:
            again.process.kill()
    finally:
        running.process.kill()
