"""The sink process stores a real broker's records in ClickHouse once, despite kills and outages."""

import json
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from tests.support import records as rows
from tests.support.events import NOON, accepted
from tests.support.running import (
    RunningKafka,
    RunningProcess,
    bare_environ,
    free_port,
    start_kafka,
    start_process,
    wait_until,
)
from tests.support.running_warehouse import RunningWarehouse, start_warehouse
from weir.adapters.clickhouse.insert import ClickHouseSchema
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.clients import client_options, group_options
from weir.cli.topics import apply_topics
from weir.core import topics
from weir.core.stages import SINK
from weir.settings.shared import ClickHouseSettings, KafkaSettings
from weir.sink.migrations import Dialect, apply_migrations

PARTITIONS = 4
WAIT_SECONDS = 60


@dataclass
class World:
    """A broker with every topic, and a database of the test's own."""

    kafka: RunningKafka
    warehouse: RunningWarehouse
    folder: Path
    database: str

    def __post_init__(self) -> None:
        self.processes: list[RunningProcess] = []
        self.ports: dict[int, int] = {}
        self.settings = ClickHouseSettings(
            clickhouse_url=self.warehouse.url, clickhouse_database=self.database
        )
        self.schema = ClickHouseSchema(self.settings)

    def start_sink(self, instance: int = 0, **settings: str) -> RunningProcess:
        self.ports[instance] = free_port()
        environ = bare_environ(
            WEIR_DATA_DIR=str(self.folder),
            WEIR_KAFKA_BOOTSTRAP=self.kafka.bootstrap,
            WEIR_CLICKHOUSE_URL=self.warehouse.url,
            WEIR_CLICKHOUSE_DATABASE=self.database,
            WEIR_INSTANCE=str(instance),
            WEIR_METRICS_PORT=str(self.ports[instance]),
            **settings,
        )
        command = [sys.executable, "-m", "weir.sink"]
        process = start_process(command, self.folder / f"sink{instance}.log", environ)
        self.processes.append(process)
        return process

    def write(self, topic: str, values: list[bytes], transaction: int = 500) -> None:
        """Durable on return; in transactions, so that there are holes in the offsets."""
        producer = Producer(
            {
                "bootstrap.servers": self.kafka.bootstrap,
                "transactional.id": uuid.uuid4().hex,
                "linger.ms": 5,
            }
        )
        producer.init_transactions()
        for start in range(0, len(values), transaction):
            producer.begin_transaction()
            for number, value in enumerate(values[start : start + transaction]):
                producer.produce(topic, value, b"k", partition=number % PARTITIONS)
            producer.commit_transaction()

    def one(self, sql: str) -> int:
        ((value,),) = (
            list(record.values())
            for record in self.schema.records(sql.replace("weir.", f"{self.database}."))
        )
        return int(value)

    def wait_for(self, sql: str, expected: int) -> None:
        wait_until(lambda: self.one(sql) == expected, WAIT_SECONDS, f"{sql} = {expected}")

    def readiness(self, instance: int = 0) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.ports[instance]}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.read().decode()
        except OSError as fault:
            return 0, str(fault)

    def restart_kafka(self) -> None:
        self.kafka.stop()
        again = start_kafka(self.kafka.log.parent, self.kafka.port)
        self.kafka.process = again.process

    def make_anew(self, topic: str) -> None:
        settings = KafkaSettings(kafka_bootstrap=self.kafka.bootstrap)
        admin = AdminClient(client_options(settings))
        (deleted,) = admin.delete_topics([topic]).values()
        deleted.result(WAIT_SECONDS)
        wait_until(
            lambda: topic not in admin.list_topics(timeout=WAIT_SECONDS).topics,
            WAIT_SECONDS,
            f"{topic} to be gone",
        )
        apply_topics(settings)

    def lag(self) -> int:
        with closing(KafkaAdmin(KafkaSettings(kafka_bootstrap=self.kafka.bootstrap))) as admin:
            return sum(lag.records for lag in admin.lags({SINK.group: SINK.reads}))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKafka]:
    """A broker of the module's own: the sink's topics and group have fixed names."""
    running = start_kafka(tmp_path_factory.mktemp("kafka"))
    try:
        apply_topics(KafkaSettings(kafka_bootstrap=running.bootstrap))
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWarehouse]:
    running = start_warehouse(tmp_path_factory.mktemp("warehouse"))
    yield running
    running.stop()


@pytest.fixture
def world(broker: RunningKafka, warehouse: RunningWarehouse, tmp_path: Path) -> Iterator[World]:
    made = World(broker, warehouse, tmp_path, f"weir_{uuid.uuid4().hex[:8]}")
    apply_migrations(made.schema, Dialect(made.database))
    with ExitStack() as left:
        yield made
        for process in made.processes:
            left.callback(process.stop)


def events(count: int, first: int = 0, **fields: Any) -> list[bytes]:
    return [
        rows.resolved(n, f"p{n % 50}", f"s{n % 70}", properties=rows.properties(n, 300), **fields)
        for n in range(first, first + count)
    ]


def test_every_topic_goes_into_its_table(world: World) -> None:
    written = {
        topics.RESOLVED: (events(40), "events", 40),
        topics.DUPLICATE: ([rows.duplicate(n) for n in range(3)], "duplicates", 3),
        topics.REJECTED: ([rows.rejected(n) for n in range(4)], "rejected", 4),
        topics.DEAD: ([rows.dead_letter(n) for n in range(5)], "dead", 5),
        topics.USAGE: ([rows.usage("accepted", 1, n) for n in range(6)], "usage_deltas", 6),
        topics.PROFILES: (
            [rows.profile(f"u:{n}", "p") for n in range(7)] + [rows.merge("a", "b")],
            "profile_parts",
            7,
        ),
        topics.QUOTAS: ([rows.source_usage()], "source_usage", 1),
    }
    for topic, (values, _, _) in written.items():
        world.write(topic, values)
    world.start_sink()
    for _, table, count in written.values():
        world.wait_for(f"SELECT count() FROM weir.{table}", count)
    world.wait_for("SELECT count() FROM weir.merges", 1)
    wait_until(lambda: world.lag() == 0, WAIT_SECONDS, "no lag, transactions' markers included")
    assert world.readiness() == (200, "ready\n")


def test_a_sink_killed_repeatedly_stores_each_event_once(world: World) -> None:
    sink = world.start_sink(WEIR_SINK_FLUSH_ROWS="400")
    total = 0
    for _ in range(5):
        world.write(topics.RESOLVED, events(3_000, total))
        before = world.one("SELECT count() FROM weir.events")
        wait_until(
            lambda: world.one("SELECT count() FROM weir.events") > before,  # noqa: B023
            WAIT_SECONDS,
            "some rows",
        )
        sink.kill()
        total += 3_000
        # other limits from now on: a range that was intended before must stay what it was
        sink = world.start_sink(WEIR_SINK_FLUSH_ROWS=str(total // 10))
    world.wait_for("SELECT uniqExact(event_id) FROM weir.events", total)
    wait_until(lambda: world.lag() == 0, WAIT_SECONDS, "no lag")
    assert world.one("SELECT count() FROM weir.events") == total
    assert world.one("SELECT sum(events) FROM weir.session_segments") == total


def test_rows_refused_by_clickhouse_become_dead_letters_and_others_are_stored(world: World) -> None:
    values = events(1_000)
    for n, text in ((5, "{"), (6, "[]"), (999, "")):
        values[n] = rows.resolved(100_000 + n, properties=text, received_at=NOON + n)
    values[500] = values[500][:-30]
    world.start_sink()
    world.write(topics.RESOLVED, values)
    world.wait_for("SELECT count() FROM weir.dead FINAL WHERE step = 'sink'", 4)
    world.wait_for("SELECT count() FROM weir.events", 996)
    wait_until(lambda: world.lag() == 0, WAIT_SECONDS, "no lag")  # the books follow their rows
    assert (
        world.one("SELECT count() FROM weir.dead FINAL WHERE reason = 'refused_by_clickhouse'") == 4
    )
    assert world.one("SELECT sum(dead) FROM weir.books") == 4


def test_unreadable_and_unexpected_records_become_dead_letters(world: World) -> None:
    world.start_sink()
    world.write(
        topics.RESOLVED, [b"", b"garbage", *events(10), rows.encode("Accepted", **accepted())]
    )
    world.wait_for("SELECT count() FROM weir.events", 10)
    world.wait_for("SELECT count() FROM weir.dead FINAL WHERE reason = 'unreadable'", 2)
    world.wait_for("SELECT count() FROM weir.dead FINAL WHERE reason = 'unexpected_record'", 1)


def test_a_clickhouse_outage_shows_in_readiness_and_loses_no_event(
    world: World, tmp_path: Path
) -> None:
    with ExitStack() as left:
        own = start_warehouse(tmp_path / "own")
        left.callback(own.kill)
        there = World(world.kafka, own, tmp_path, world.database)
        apply_migrations(there.schema, Dialect(there.database))
        sink = there.start_sink(WEIR_SINK_RETRY_SECONDS="0.5")
        left.callback(sink.kill)
        there.write(topics.RESOLVED, events(200))
        there.wait_for("SELECT count() FROM weir.events", 200)
        own.kill()
        there.write(topics.RESOLVED, events(5_000, 200))
        wait_until(lambda: there.readiness()[0] == 503, WAIT_SECONDS, "readiness to say so")
        assert "ClickHouse" in there.readiness()[1]
        again = start_warehouse(tmp_path / "own", own.port)
        left.callback(again.kill)
        there.wait_for("SELECT count() FROM weir.events", 5_200)
        wait_until(lambda: there.readiness()[0] == 200, WAIT_SECONDS, "readiness")
        # a row is there before its visit is: the sink goes on once both are
        wait_until(lambda: there.lag() == 0, WAIT_SECONDS, "no lag")
        assert there.one("SELECT count() FROM weir.events") == 5_200
        assert there.one("SELECT sum(events) FROM weir.session_segments") == 5_200
        assert sink.stop() == 0


def test_readiness_says_what_to_do_when_the_positions_topic_is_missing(
    empty_kafka: RunningKafka, warehouse: RunningWarehouse, tmp_path: Path
) -> None:
    """The sink stores nothing while it cannot keep its position, and everything afterwards."""
    with ExitStack() as left:
        settings = KafkaSettings(kafka_bootstrap=empty_kafka.bootstrap)
        apply_topics(settings)
        delete_topic(empty_kafka.bootstrap, topics.POSITIONS)
        there = World(empty_kafka, warehouse, tmp_path, f"weir_{uuid.uuid4().hex[:8]}")
        apply_migrations(there.schema, Dialect(there.database))
        sink = there.start_sink()
        left.callback(sink.kill)
        there.write(topics.RESOLVED, events(20))

        def says_so() -> bool:
            status, said = there.readiness()
            assert status != 200
            return "positions is missing: run `weir topics apply`" in said

        wait_until(says_so, WAIT_SECONDS, "readiness to say so")
        assert there.one("SELECT count() FROM weir.events") == 0
        apply_topics(settings)
        there.wait_for("SELECT count() FROM weir.events", 20)
        wait_until(lambda: there.readiness()[0] == 200, WAIT_SECONDS, "readiness")
        assert sink.stop() == 0


def delete_topic(bootstrap: str, topic: str) -> None:
    """It is gone on return."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic])[topic].result(20)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics, 20, "it to be gone")


def test_a_sink_that_was_fenced_but_not_replaced_continues(world: World) -> None:
    """The sink can be fenced by its own former member id when a broker's answer is lost."""
    sink = world.start_sink()
    world.write(topics.RESOLVED, events(10))
    world.wait_for("SELECT count() FROM weir.events", 10)
    ghost = Consumer(
        {
            "bootstrap.servers": world.kafka.bootstrap,
            **group_options("weir.sink", "weir-sink-0", 6, 1_024),
        }
    )
    ghost.subscribe(list(SINK.reads))

    def is_fenced() -> bool:
        ghost.poll(0.1)
        return "reading again from the committed offsets" in sink.said()

    wait_until(is_fenced, WAIT_SECONDS, "it to be fenced")
    ghost.close()
    world.write(topics.RESOLVED, events(10, 10))
    world.wait_for("SELECT count() FROM weir.events", 20)
    assert sink.running
    assert "slot" not in sink.said()


def test_a_second_sink_in_the_same_slot_ends_the_first_and_takes_over(world: World) -> None:
    first = world.start_sink()
    wait_until(lambda: world.readiness()[0] == 200, WAIT_SECONDS, "the first to be ready")
    second = world.start_sink()
    wait_until(lambda: not first.running, WAIT_SECONDS, "the first to end")
    assert "another process has taken this instance's slot" in first.said()
    world.write(topics.RESOLVED, events(10))
    world.wait_for("SELECT count() FROM weir.events", 10)
    assert second.running


def test_each_event_is_stored_once_when_a_sink_instance_joins_and_another_dies(
    world: World,
) -> None:
    first = world.start_sink(0, WEIR_SINK_FLUSH_ROWS="200")
    world.write(topics.RESOLVED, events(2_000))
    wait_until(lambda: world.one("SELECT count() FROM weir.events") > 0, WAIT_SECONDS, "some rows")
    second = world.start_sink(1, WEIR_SINK_FLUSH_ROWS="300")
    world.write(topics.RESOLVED, events(4_000, 2_000))
    wait_until(lambda: world.readiness(1)[0] == 200, WAIT_SECONDS, "the second to be ready")
    first.kill()
    world.write(topics.RESOLVED, events(2_000, 6_000))
    world.wait_for("SELECT uniqExact(event_id) FROM weir.events", 8_000)
    wait_until(lambda: world.lag() == 0, WAIT_SECONDS, "no lag")
    assert world.one("SELECT count() FROM weir.events") == 8_000
    assert second.stop() == 0


def test_a_topic_recreated_while_the_sink_runs_is_read_from_its_beginning(world: World) -> None:
    """This holds for a longer new topic, and after a broker restart has raised the epochs.

    Of the one the consumer passes records by, of the other it reads nothing: it says so of neither.
    """
    world.start_sink()
    count = "SELECT count() FROM weir.usage_deltas"
    world.write(topics.USAGE, [rows.usage("accepted", 1, n) for n in range(8)])
    world.wait_for(count, 8)
    wait_until(lambda: world.lag() == 0, WAIT_SECONDS, "no lag")
    total = 8
    for is_restarted in (False, True):
        if is_restarted:
            world.restart_kafka()
        world.make_anew(topics.USAGE)
        world.write(
            topics.USAGE, [rows.usage("accepted", 1, n) for n in range(total, total + 5 * total)]
        )
        total += 5 * total
        world.wait_for(count, total)
        wait_until(lambda: world.lag() == 0, WAIT_SECONDS, "no lag")
    assert world.one(count) == total


def test_a_first_start_logs_no_warning(
    empty_kafka: RunningKafka, warehouse: RunningWarehouse, tmp_path: Path
) -> None:
    with ExitStack() as left:
        apply_topics(KafkaSettings(kafka_bootstrap=empty_kafka.bootstrap))
        there = World(empty_kafka, warehouse, tmp_path, f"weir_{uuid.uuid4().hex[:8]}")
        apply_migrations(there.schema, Dialect(there.database))
        sink = there.start_sink(WEIR_LOG_FORMAT="json")
        left.callback(sink.kill)
        wait_until(lambda: there.readiness()[0] == 200, WAIT_SECONDS, "readiness")
        assert sink.stop() == 0
        said = [json.loads(line) for line in (tmp_path / "sink0.log").read_text().splitlines()]
        assert [line["event"] for line in said if line["level"] != "info"] == []
        assert [line["event"] for line in said].count(
            "first start: reading from the beginning"
        ) == 1
