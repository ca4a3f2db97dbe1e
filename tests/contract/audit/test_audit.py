"""The audit compares Kafka, usage accounts and stored rows, and finds a fault in any of them."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.bench.measure import Probe
from tests.support import records as rows
from tests.support.events import NOON, accepted, accepted_output
from tests.support.migrated_tables import Tables
from tests.support.running import RunningKafka, bare_environ, free_port, start_process, wait_until
from tests.support.running_warehouse import start_warehouse
from weir.adapters.usage_records import signed
from weir.audit import clickhouse_counts as books
from weir.audit import offsets
from weir.audit.unread_counts import UnreadCounter
from weir.cli.audit import command
from weir.cli.migrate import migrate
from weir.cli.topics import apply_topics
from weir.core import topics
from weir.core.batch import Output, id_checksum
from weir.settings.shared import ClickHouseSettings, KafkaSettings, MigrationSettings

PARTITION = 1
NOW = time.time_ns() // 60_000_000_000 * 60_000  # this minute


@dataclass
class World:
    """Topics, tables and groups of nobody else: the test says what each witness says."""

    kafka: KafkaSettings
    tables: Tables

    def accept(self, count: int, transactional: str = "") -> None:
        """Events of source shop in one partition of events.accepted."""
        options: dict[str, Any] = {"bootstrap.servers": self.kafka.bootstrap(), "linger.ms": 0}
        if transactional:
            options["transactional.id"] = transactional
        producer = Producer(options)
        if transactional:
            producer.init_transactions(20)
            producer.begin_transaction()
        for number in range(count):
            self.produce(producer, accepted_output(accepted(number, received_at=NOW)))
        if transactional:
            producer.commit_transaction(20)
        assert producer.flush(20) == 0

    def write(self, topic: str, *values: bytes) -> None:
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap()})
        for value in values:
            self.produce(producer, Output(b"shop", value), topic)
        assert producer.flush(20) == 0

    def produce(self, producer: Producer, output: Output, topic: str = topics.ACCEPTED) -> None:
        producer.produce(topic, output.value, output.key, PARTITION, timestamp=NOW)

    def commit(self, group: str, topic: str, position: int) -> None:
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap(), "group.id": group})
        place = TopicPartition(topic, PARTITION, position)
        consumer.commit(offsets=[place], asynchronous=False)
        consumer.close()

    def topic_id(self) -> str:
        books = UnreadCounter(self.kafka)
        found = books.topic_id(topics.ACCEPTED)
        books.close()
        return found

    def usage(self, outcome: str, events: int, first: int, position: int, **fields: Any) -> bytes:
        return rows.usage(
            outcome,
            events,
            position,
            minute=fields.pop("minute", NOW),
            origin_partition=PARTITION,
            topic_id=fields.pop("topic_id", self.topic_id()),
            first=first,
            **fields,
        )

    def account(self, *deltas: bytes) -> None:
        self.tables.insert("landing_usage_delta", *deltas)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "WEIR_KAFKA_PORT": str(self.kafka.kafka_port),
            "WEIR_CLICKHOUSE_URL": self.tables.settings.url(),
            "WEIR_CLICKHOUSE_DATABASE": self.tables.database,
        }

    def audit(self) -> dict[str, Any]:
        result = CliRunner().invoke(command, ["--json"], env=self.environ)
        assert result.exit_code in (0, 1), result.output
        report: dict[str, Any] = json.loads(result.stdout)
        assert report["balanced"] == (result.exit_code == 0)
        return report


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running = start_warehouse(tmp_path_factory.mktemp("warehouse"))
    yield running.url
    running.stop()


@pytest.fixture
def world(warehouse: str, empty_kafka: RunningKafka) -> Iterator[World]:
    tables = Tables(warehouse)
    try:
        kafka = KafkaSettings(kafka_port=empty_kafka.port)
        apply_topics(kafka)
        settings = ClickHouseSettings(clickhouse_url=warehouse, clickhouse_database=tables.database)
        migrate(settings, MigrationSettings())
        yield World(kafka, tables)
    finally:
        tables.close()


def gap(first: int, last: int, records: int, counted: int) -> str:
    return (
        f"between Kafka and dedup: events.accepted, partition 1, offsets {first} to {last}:"
        f" {records} records, but dedup counted {counted}"
    )


def test_audit_reports_committed_offsets_that_dedup_did_not_count(world: World) -> None:
    world.accept(10)
    world.commit("weir.dedup", topics.ACCEPTED, 10)
    world.account(world.usage("accepted", 4, 0, 4))
    assert _of_offsets(world.audit()) == [gap(4, 9, 6, 0)]  # the group's position says more
    world.account(world.usage("accepted", 2, 8, 10), world.usage("reread", 2, 6, 8))
    assert gap(4, 7, 4, 2) in world.audit()["findings"]  # between two transactions
    world.account(world.usage("reread", 1, 4, 6))
    assert _of_offsets(world.audit()) == [gap(4, 5, 2, 1)]  # within one
    world.account(world.usage("accepted", 1, 4, 6))
    assert _of_offsets(world.audit()) == []


def test_audit_ignores_transaction_markers_and_accounts_of_earlier_versions(world: World) -> None:
    world.accept(3)
    world.accept(2, transactional="replay")  # and a marker
    world.accept(1)
    world.commit("weir.dedup", topics.ACCEPTED, 7)
    world.account(world.usage("accepted", 3, 0, 3, topic_id=""))
    assert _of_offsets(world.audit()) == []
    world.account(world.usage("accepted", 5, 0, 5), world.usage("accepted", 1, 6, 7))
    assert _of_offsets(world.audit()) == []
    world.account(world.usage("accepted", 9, 0, 9, topic_id="of a topic that is gone"))
    assert _of_offsets(world.audit()) == []


def test_audit_counts_usage_deltas_that_the_sink_has_not_read_yet(world: World) -> None:
    world.accept(4)
    world.commit("weir.dedup", topics.ACCEPTED, 4)
    world.account(world.usage("accepted", 2, 0, 2))
    assert _of_offsets(world.audit()) == [gap(2, 3, 2, 0)]
    world.write(topics.USAGE, world.usage("accepted", 2, 2, 4))
    report = world.audit()
    assert report["findings"] == []
    assert (report["in_flight"]["weir.sink"], report["unread"]["weir.sink"]) == (1, {"shop": 1})


def test_audit_counts_unmerged_copies_of_a_row_once(world: World) -> None:
    """A record written twice by its producer, or inserted again too late, counts once."""
    world.tables.schema.execute(f"SYSTEM STOP MERGES {world.tables.database}.usage_deltas")
    world.tables.schema.execute(f"SYSTEM STOP MERGES {world.tables.database}.duplicates")
    world.accept(2)
    world.commit("weir.dedup", topics.ACCEPTED, 2)
    whose = id_checksum([accepted(1)["event_id"]])
    accounts = [
        world.usage("accepted", 2, 0, 2, minute=NOON),
        world.usage("unique", 1, 0, 2, minute=NOON, fingerprint=whose),
        world.usage("duplicate", 1, 0, 2, minute=NOON, fingerprint=1),
        world.usage(
            "resolved",
            1,
            0,
            1,
            stage="identity",
            origin_topic=topics.UNIQUE,
            minute=NOON,
            fingerprint=whose,
        ),
    ]
    for _ in range(2):
        world.account(*accounts)
        world.tables.insert("landing_duplicate", rows.duplicate(1))
    world.tables.insert("landing_events", rows.resolved(1))
    part = ["--json", "--all"]
    result = CliRunner().invoke(command, part, env=world.environ)
    assert json.loads(result.stdout)["findings"] == []
    world.account(accounts[1])  # no copy: a row that is not explained is told all the same
    world.tables.insert("landing_duplicate", rows.duplicate(2))
    result = CliRunner().invoke(command, part, env=world.environ)
    (finding,) = json.loads(result.stdout)["findings"]
    assert "1 fewer duplicate than rows in duplicates" in finding


def test_audit_reports_how_many_ranges_and_minutes_it_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offsets, "SUSPECTS_AT_MOST", 2)
    monkeypatch.setattr(books, "ENTRIES_AT_MOST", 1)
    world.accept(9)
    world.commit("weir.dedup", topics.ACCEPTED, 9)
    for first in (0, 3, 6):  # one of three is missing each time
        world.account(world.usage("accepted", 2, first, first + 3))
    report = world.audit()
    assert len(_of_offsets(report)) == 2
    (gaps,) = report["partly"]
    assert gaps.startswith("between Kafka and dedup: only 2 of 3 ranges of offsets")
    world.account(world.usage("accepted", 1, 1, 2, topic_id="", minute=NOW - 60_000))
    assert "all stages: only 1 of 2 minutes that do not balance" in world.audit()["partly"][1]
    result = CliRunner().invoke(command, [], env=world.environ)
    assert "only 2 of 3 ranges" in result.output


def test_audit_reports_a_missing_event_only_once_its_record_was_read(world: World) -> None:
    resolved = {"stage": "identity", "origin_topic": topics.UNIQUE}
    world.account(
        world.usage("accepted", 2, 0, 2, topic_id=""),
        world.usage("unique", 2, 0, 2, topic_id=""),
        world.usage("resolved", 1, 0, 1, topic_id="", **resolved),
    )
    world.tables.insert("landing_events", rows.resolved(0, received_at=NOW))
    world.write(topics.UNIQUE, accepted_output(accepted(1, received_at=NOW)).value)
    report = world.audit()
    assert report["findings"] == []
    assert [(p["in_flight"], p["difference"]) for p in report["pages"]] == [(1, 0)]
    world.commit("weir.identity", topics.UNIQUE, 1)  # passed, and nothing said
    report = world.audit()
    (finding,) = report["findings"]
    assert "between dedup and identity: 1 more unique than resolved" in finding
    assert [(p["in_flight"], p["difference"]) for p in report["pages"]] == [(0, 1)]
    assert report["differences"] == {"shop": 1}


def test_stored_rows_missing_in_identitys_account_are_a_remark_not_a_finding(world: World) -> None:
    """Rows restored from events.accepted are recognized by their event ids alone."""
    ids = [accepted(number)["event_id"] for number in range(3)]

    def unique(position: int, event_id: bytes) -> bytes:
        checksum = signed(id_checksum([event_id]))
        return world.usage("unique", 1, position - 1, position, topic_id="t", fingerprint=checksum)

    world.account(
        world.usage("accepted", 2, 0, 2, topic_id="t"), unique(1, ids[0]), unique(2, ids[1])
    )
    world.tables.insert("landing_events", rows.resolved(0, received_at=NOW))
    report = world.audit()
    assert len(report["findings"]) == 2
    assert report["remarks"] == []
    world.tables.insert("landing_events", rows.resolved(1, received_at=NOW))
    report = world.audit()
    assert (report["findings"], report["differences"]) == ([], {"shop": 0})
    (remark,) = report["remarks"]
    assert "2 stored events that dedup counted as unique are missing in identity's" in remark
    assert [(p["stored"], p["in_flight"], p["difference"]) for p in report["pages"]] == [(2, 0, 0)]
    world.account(unique(3, ids[2]))
    world.tables.insert("landing_events", rows.resolved(7, received_at=NOW))
    report = world.audit()
    assert report["remarks"] == []
    assert "between dedup and identity: 3 more unique than resolved" in report["findings"][1]


def test_audit_with_watch_reports_a_difference_and_its_end(world: World, tmp_path: Path) -> None:
    port = free_port()
    environ = bare_environ(**world.environ, WEIR_METRICS_PORT=str(port))
    arguments = [sys.executable, "-m", "weir.cli.main", "audit", "--watch", "--every", "1"]
    audit = start_process(arguments, tmp_path / "audit.log", environ)
    probe = Probe(port)

    def differs(events: int) -> Callable[[], bool]:
        return lambda: probe.ready() and probe.total("weir_books_difference") == events

    try:
        wait_until(lambda: "balance" in audit.said(), 60, "the first audit")
        world.account(
            world.usage("accepted", 2, 0, 2, topic_id=""),
            world.usage("unique", 2, 0, 2, topic_id=""),
        )
        wait_until(differs(2), 60, "the difference")
        text = "between dedup and identity: 2 more unique than resolved"
        wait_until(lambda: text in audit.said(), 10, "the line that tells it")
        unsaved = world.usage("unsaved", 2, 0, 2, topic_id="", stage="identity")
        world.account(unsaved)
        wait_until(differs(0), 60, "no difference")
        wait_until(lambda: audit.said().count("the books balance") == 2, 10, "the line")
        assert audit.stop() == 0
    finally:
        audit.kill()


def _of_offsets(report: dict[str, Any]) -> list[str]:
    return [text for text in report["findings"] if text.startswith("between Kafka")]
