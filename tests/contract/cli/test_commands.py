"""The `weir` commands work against a real broker and the real ClickHouse engine."""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from tests.support.running import start_kafka, wait_until
from tests.support.running_warehouse import start_warehouse
from weir.adapters.avro import schemas
from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.clients import write_entries
from weir.cli.migrate import migrate
from weir.cli.topics import apply_topics
from weir.core.registry import Source, hash_key, is_sealed
from weir.core.stages import GROUPS
from weir.core.topics import REGISTRY
from weir.embedded.ports import free_port
from weir.registry.contents import read_registry
from weir.registry.follower import source_entry
from weir.registry.secret_encryption import new_key
from weir.settings.shared import ClickHouseSettings, KafkaSettings, MigrationSettings

EVENT_ID = "0199c3a0-0000-7000-8000-000000000001"
Weir = Callable[..., Result]


@dataclass(frozen=True)
class Place:
    """A broker and a warehouse of this module's own: the commands speak of topics by fixed names."""

    kafka: KafkaSettings
    clickhouse: ClickHouseSettings
    environ: dict[str, str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("commands")
    kafka = start_kafka(folder / "kafka")
    try:
        warehouse = start_warehouse(folder / "warehouse")
        try:
            found = Place(
                KafkaSettings(kafka_port=kafka.port),
                ClickHouseSettings(clickhouse_port=warehouse.port),
                {
                    "WEIR_KAFKA_PORT": str(kafka.port),
                    "WEIR_CLICKHOUSE_PORT": str(warehouse.port),
                    "WEIR_DATA_DIR": str(folder),
                },
            )
            apply_topics(found.kafka)
            migrate(found.clickhouse, MigrationSettings())
            yield found
        finally:
            warehouse.stop()
    finally:
        kafka.stop()


@pytest.fixture
def weir(place: Place) -> Weir:
    """Runs a command as `weir` would: `weir("topics", "list")`."""

    def run(name: str, *arguments: str, **environ: str) -> Result:
        command = import_module(f"weir.cli.{name}").command
        return CliRunner().invoke(command, arguments, env=place.environ | environ)

    return run


@pytest.fixture
def away() -> dict[str, str]:
    """Settings under which nothing answers."""
    return {
        "WEIR_KAFKA_PORT": str(free_port()),
        "WEIR_CLICKHOUSE_PORT": str(free_port()),
        "WEIR_COMMAND_PATIENCE": "0",
    }


def rows(place: Place, *statements: str) -> None:
    clickhouse = ClickHouse(place.clickhouse)
    for statement in statements:
        clickhouse.ask(statement)


# --- topics


def test_applying_topics_again_changes_nothing(weir: Weir) -> None:
    assert weir("topics", "apply").output == "Nothing to change.\n"


def test_topics_apply_creates_and_updates_a_topic_but_never_repartitions_it(
    weir: Weir, tmp_path: Path
) -> None:
    name = f"test.{uuid.uuid4().hex[:8]}"
    file = tmp_path / "topics.yaml"

    def declared(partitions: int, hours: int) -> str:
        file.write_text(
            f"profiles: {{local: {{partitions: {partitions}, replicas: 1,"
            f" min_insync_replicas: 1}}}}\ntopics: {{{name}: {{retention_hours: {hours}}}}}\n"
        )
        return str(file)

    assert f"+ {name}  3 partitions" in weir("topics", "apply", declared(3, 24)).output
    mended = weir("topics", "apply", declared(3, 48)).output
    assert f"~ {name}  retention.ms: 86400000 -> 172800000\n" in mended
    assert "Nothing to change." in weir("topics", "apply", declared(3, 48)).output
    refused = weir("topics", "apply", declared(6, 24))
    assert refused.exit_code == 2
    assert f"{name} has 3 and the file says 6." in refused.stderr
    assert f"{name:<8}" in weir("topics", "list").output
    assert "48 h" in weir("topics", "list").output


# --- sources


def source_file(folder: Path, text: str) -> str:
    path = folder / "sources.yaml"
    path.write_text(text)
    return str(path)


def test_apply_creates_updates_and_prunes_sources_and_dry_run_writes_nothing(
    weir: Weir, place: Place, tmp_path: Path
) -> None:
    name, key = f"s{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    file = source_file(tmp_path, f"sources: {{{name}: {{write_keys: [{key}]}}}}")
    assert "1 to change (dry run)." in weir("apply", "--dry-run", file).output
    assert name not in read_registry(place.kafka).sources

    applied = weir("apply", file)
    assert f"+ source {name}\n" in applied.output
    assert key not in applied.output
    assert hash_key(key) not in applied.output
    assert read_registry(place.kafka).sources[name].write_key_hashes == (hash_key(key),)

    assert weir("apply", file).output == "Nothing to change.\n"
    file = source_file(tmp_path, f"sources: {{{name}: {{write_keys: [{key}], kind: browser}}}}")
    assert "kind: server -> browser" in weir("apply", file).output

    other = source_file(tmp_path, "sources: {other: {}}")
    assert f"- source {name}\n" in weir("apply", "--prune", other).output
    assert set(read_registry(place.kafka).sources) == {"other"}


def test_apply_writes_only_the_sources_that_changed(
    weir: Weir, place: Place, tmp_path: Path
) -> None:
    def written() -> int:
        admin = KafkaAdmin(place.kafka)
        return admin.record_counts([admin.topics()["registry"]])["registry"]

    weir("apply", source_file(tmp_path, "sources: {a: {}, b: {}}"))
    before = written()
    weir("apply", source_file(tmp_path, "sources: {a: {}, b: {enabled: false}}"))
    assert written() == before + 1


def test_a_faulty_file_writes_nothing(weir: Weir, place: Place, tmp_path: Path) -> None:
    before = read_registry(place.kafka)
    file = source_file(tmp_path, "sources: {good: {}, bad: {kind: phone, colour: 1}}")
    result = weir("apply", file)
    assert result.exit_code == 2
    assert "sources.bad.kind" in result.stderr
    assert "sources.bad.colour" in result.stderr
    assert "has 2 faults; nothing was written." in result.stderr
    assert read_registry(place.kafka) == before


def test_keys_are_created_rotated_and_revoked_independently_of_the_file(
    weir: Weir, place: Place, tmp_path: Path
) -> None:
    name = f"s{uuid.uuid4().hex[:8]}"
    file = source_file(tmp_path, f"sources: {{{name}: {{write_keys: [{uuid.uuid4().hex}]}}}}")
    weir("apply", file)
    created = weir("keys", "create", "--source", name, "--scope", "write", "--name", "till")
    plain = created.stdout.strip()
    assert plain.startswith("weir_w_")
    digest = hash_key(plain)
    assert digest[:12] in created.stderr
    assert plain not in repr(read_registry(place.kafka))

    assert weir("apply", file).output == "Nothing to change.\n"
    listed = json.loads(weir("keys", "list", "--source", name, "--json").stdout)
    assert [(key["made_by"], key["state"]) for key in listed] == [
        ("file", "in force"),
        ("keys", "in force"),
    ]

    rotated = weir("keys", "rotate", digest[:12], "--overlap", "1h", "--expires", "90d")
    successor = read_registry(place.kafka).keys[hash_key(rotated.stdout.strip())]
    ending = read_registry(place.kafka).keys[digest]
    assert (successor.name, successor.scope) == ("till", "write")
    assert ending.ends_at == successor.created_at + 3_600_000
    assert successor.ends_at == successor.created_at + 90 * 86_400_000

    assert weir("keys", "revoke", digest[:12]).exit_code == 0
    assert digest not in read_registry(place.kafka).keys
    assert weir("keys", "revoke", digest[:12]).exit_code == 2

    weir("apply", "--prune", source_file(tmp_path, "sources: {other: {}}"))
    assert successor.digest not in read_registry(place.kafka).keys


def test_signing_secrets_are_encrypted_at_the_next_apply(
    weir: Weir, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, secret = f"s{uuid.uuid4().hex[:8]}", "a-secret-of-theirs"
    file = source_file(tmp_path, f"sources: {{{name}: {{signing_secrets: [{secret}]}}}}")
    in_plain = Source(id=name, signing_secrets=(secret,))  # as they were stored once
    write_entries(place.kafka, REGISTRY, [source_entry(in_plain)])
    assert "encrypted with the current key" in weir("apply", file).output
    (stored,) = read_registry(place.kafka).sources[name].signing_secrets
    assert is_sealed(stored)
    assert secret not in stored
    assert weir("apply", file).output == "Nothing to change.\n"

    monkeypatch.setenv("WEIR_SECRETS_KEY", new_key())  # what was there cannot be read with it
    assert weir("apply", file).output.endswith("1 written.\n")
    assert weir("apply", file).output == "Nothing to change.\n"

    monkeypatch.delenv("WEIR_SECRETS_KEY")  # a cluster's registry, and no key for it
    monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP", place.kafka.bootstrap())
    refused = weir("apply", file)
    assert refused.exit_code == 2
    assert "make a key with `weir keys secret-key`" in refused.stderr


# --- sql


def test_sql_prints_a_result_as_a_table(weir: Weir) -> None:
    result = weir("sql", "SELECT number AS n, 'größe' AS word FROM numbers(2)")
    assert [line.split() for line in result.output.splitlines()] == [
        ["n", "word"],
        ["0", "größe"],
        ["1", "größe"],
        ["2", "rows"],
    ]


def test_sql_prints_the_result_in_the_requested_format(weir: Weir) -> None:
    assert weir("sql", "SELECT 1 AS a, 'x' AS b", "--format", "CSV").output == '1,"x"\n'
    assert weir("sql", "SELECT 2 AS a FORMAT JSONEachRow;").output == '{"a":2}\n'


def test_sql_prints_done_for_a_statement_without_a_result(weir: Weir) -> None:
    table = f"t{uuid.uuid4().hex[:8]}"
    created = weir("sql", f"CREATE TABLE {table} (n UInt8) ENGINE = Memory")
    assert created.output == "Done.\n"
    assert weir("sql", f"INSERT INTO {table} VALUES (1), (2)").output == "Done.\n"
    assert weir("sql", f"SELECT sum(n) FROM {table}", "--format", "TSV").output == "3\n"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [("SELECT nope", "`nope`"), ("SELEC 1", "Syntax error"), ("SELECT * FROM no.t", "no")],
)
def test_sql_prints_a_one_line_error_for_a_faulty_query(
    weir: Weir, sql: str, expected: str
) -> None:
    result = weir("sql", sql)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert expected in result.stderr


# --- groups


def test_lag_counts_committed_records_but_no_markers_or_aborted_records(place: Place) -> None:
    group, transactional = f"g.{uuid.uuid4()}", uuid.uuid4().hex
    options = {"bootstrap.servers": place.kafka.bootstrap()}
    producer = Producer({**options, "transactional.id": transactional})
    producer.init_transactions(20)

    def write(count: int, commit: bool) -> None:
        producer.begin_transaction()
        for _ in range(count):
            producer.produce("events.duplicate", b"value", partition=0)
        producer.flush(20)
        (producer.commit_transaction if commit else producer.abort_transaction)(20)

    write(5, commit=True)
    write(7, commit=False)
    admin = KafkaAdmin(place.kafka)

    def waiting() -> int:
        return sum(lag.records for lag in admin.lags({group: ["events.duplicate"]}))

    assert waiting() == 5  # it has never committed: all of it
    reader = Consumer({**options, "group.id": group, "enable.auto.commit": False})
    reader.commit(offsets=[TopicPartition("events.duplicate", 0, 5)], asynchronous=False)
    assert waiting() == 0  # behind it: a marker, aborted records, a marker
    write(3, commit=True)
    assert waiting() == 3
    reader.close()
    admin.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_lag_names_the_group_member_that_reads_each_partition(place: Place, protocol: str) -> None:
    group = f"g.{uuid.uuid4()}"
    reader = Consumer(
        {
            "bootstrap.servers": place.kafka.bootstrap(),
            "group.id": group,
            "group.protocol": protocol,
            "group.instance.id": "weir-test-0",
            "enable.auto.commit": False,
        }
    )
    reader.subscribe(["events.rejected"])

    def assigned() -> bool:
        message = reader.poll(0.1)
        assert message is None or message.error().code() == KafkaError._PARTITION_EOF
        return len(reader.assignment()) == 4

    wait_until(assigned, 30, "the assignment")
    admin = KafkaAdmin(place.kafka)
    lags = admin.lags({group: ["events.rejected"]})
    assert [(lag.partition, lag.client) for lag in lags] == [(p, "weir-test-0") for p in range(4)]
    reader.close()
    admin.close()


# --- status


def test_status_shows_every_group_once(weir: Weir) -> None:
    result = weir("status", "--once")
    assert result.exit_code == 0
    assert "weir.dedup" in result.output
    assert weir("status").output.count("weir.dedup") == 1  # into a pipe: once, and it ends
    look = json.loads(weir("status", "--json").stdout)
    assert [group["group"] for group in look["groups"]] == list(GROUPS)
    assert (look["kafka"], look["clickhouse"]) == ("", "")


def test_status_shows_a_sources_rate_and_quotas(weir: Weir, place: Place) -> None:
    name = f"s{uuid.uuid4().hex[:8]}"
    quota = {
        "name": "plan",
        "period": "month",
        "unit": "events",
        "limit": 1_000,
        "used": 12,
        "action": "reject",
        "exceeded": False,
        "resets_at": 1 << 45,
    }
    schema = schemas()["SourceUsage"]
    usage: dict[str, Any] = {
        field["name"]: [] if isinstance(field["type"], dict) else 0
        for field in schema.definition["fields"]
    }
    usage |= {"source": name, "quotas": [quota], "current_rate": 2.5, "updated_at": 1 << 45}
    producer = Producer({"bootstrap.servers": place.kafka.bootstrap()})
    producer.produce("quotas", schema.encode(usage), name)
    assert producer.flush(20) == 0
    lines = [line.split() for line in weir("status", "--once").output.splitlines()]
    assert [name, "2.5", "0", *["plan", "12/1,000", "events", "a", "month"]] in lines


# --- audit and dead letters


def book(source: str, minute: str, **counted: int) -> str:
    """Accounts as the stages would write them: `dedup_accepted=3`."""
    values = ", ".join(
        f"('{source}', toDateTime('{minute}', 'UTC'), '{name.partition('_')[0]}',"
        f" '{name.partition('_')[2]}', {events}, 100, 'events.accepted', 0, 1)"
        for name, events in counted.items()
    )
    return (
        "INSERT INTO weir.usage_deltas (source, minute, stage, outcome, events, bytes,"
        f" origin_topic, origin_partition, position) VALUES {values}"
    )


def event_rows(source: str, at: str, count: int) -> str:
    return (
        "INSERT INTO weir.events (event_id, source, event, received_at, occurred_at)"
        f" SELECT generateUUIDv4(), '{source}', 'x', toDateTime64('{at}', 3, 'UTC'),"
        f" toDateTime64('{at}', 3, 'UTC') FROM numbers({count})"
    )


def test_audit_exits_0_when_the_counts_balance(weir: Weir, place: Place) -> None:
    source = f"s{uuid.uuid4().hex[:8]}"
    counted = {"dedup_accepted": 5, "dedup_unique": 5, "identity_resolved": 4}
    rows(
        place,
        book(source, "2026-01-01 10:00:00", **counted, identity_unsaved=1),
        event_rows(source, "2026-01-01 10:00:30", 4),
    )
    result = weir("audit", "--source", source, "--minutes", "--all")
    assert result.exit_code == 0, result.output
    line = [source, "2026-01-01", "10:00:00", "5", "4", "0", "0", "1", "0", "0", "0", "0"]
    assert line in [text.split() for text in result.output.splitlines()]
    assert "balance" in result.output.splitlines()[-1]


def test_audit_exits_1_and_reports_the_difference_when_counts_do_not_balance(
    weir: Weir, place: Place
) -> None:
    source = f"s{uuid.uuid4().hex[:8]}"
    counted = {"dedup_accepted": 5, "dedup_unique": 5, "identity_resolved": 5}
    rows(
        place,
        book(source, "2026-01-01 10:00:00", **counted),
        event_rows(source, "2026-01-01 10:00:30", 4),
    )
    result = weir("audit", "--source", source, "--all")
    assert result.exit_code == 1
    assert (
        f"✗ {source} at 2026-01-01 10:00: between identity and ClickHouse: 1 more resolved than"
        " stored, erased or refused, and nothing is unread" in result.output
    )
    audit: dict[str, Any] = json.loads(weir("audit", "--source", source, "--all", "--json").stdout)
    (page,) = audit["pages"]
    assert (audit["balanced"], page["difference"], page["in_flight"]) == (False, 1, 0)
    assert audit["differences"] == {source: 1}
    assert weir("audit", "--source", source).exit_code == 0  # of the last hours there is nothing
    elsewhere = weir("audit", "--source", source, "--to", "2026-01-01T10:00")
    assert elsewhere.exit_code == 0


def test_audit_with_wait_exits_1_when_records_stay_unread(weir: Weir, place: Place) -> None:
    producer = Producer({"bootstrap.servers": place.kafka.bootstrap()})
    producer.produce("events.accepted", b"nobody reads it here")
    assert producer.flush(20) == 0
    source = f"s{uuid.uuid4().hex[:8]}"
    assert weir("audit", "--source", source).exit_code == 0
    waited = weir("audit", "--source", source, "--wait", "0.5")
    assert waited.exit_code == 1
    assert "In flight (records yet to be read): weir.dedup " in waited.output


def test_audit_with_ids_finds_a_row_stored_twice(weir: Weir, place: Place) -> None:
    source = f"s{uuid.uuid4().hex[:8]}"
    twice = (
        "INSERT INTO weir.events (event_id, source, event, received_at, occurred_at)"
        f" SELECT toUUID('{EVENT_ID}'), '{source}', 'x', toDateTime64('2026-01-01', 3, 'UTC'),"
        " toDateTime64(d, 3, 'UTC') FROM values('d String', '2026-01-01', '2026-01-02')"
    )
    counted = {"dedup_accepted": 2, "dedup_unique": 2, "identity_resolved": 2}
    rows(place, book(source, "2026-01-01 00:00:00", **counted), twice)
    assert weir("audit", "--source", source, "--all").exit_code == 0  # nobody said which events
    result = weir("audit", "--source", source, "--all", "--ids")
    assert result.exit_code == 1
    assert "2 rows in events, 1 distinct ids" in result.output


def test_dead_letters_are_listed_and_shown(weir: Weir, place: Place) -> None:
    source = f"s{uuid.uuid4().hex[:8]}"
    rows(
        place,
        "INSERT INTO weir.dead (origin_topic, origin_partition, origin_offset, key, value, step,"
        " version, reason, detail, source, received_at, event_id, died_at) VALUES"
        f" ('events.accepted', 3, 1204, 'key', unhex('00ff'), 'dedup', '0.1', 'unreadable',"
        f" 'not ours', '{source}', 0, '{EVENT_ID}', now64(3)),"
        f" ('events.accepted', 3, 1205, 'key', 'text', 'sink', '0.1', 'refused', 'no',"
        f" '{source}', 0, '{EVENT_ID}', toDateTime64('2026-01-01', 3, 'UTC'))",
    )
    listed = json.loads(weir("dead", "list", "--source", source, "--json").stdout)
    assert [letter["id"] for letter in listed] == [
        "events.accepted/3/1204",
        "events.accepted/3/1205",
    ]
    by_step = weir("dead", "list", "--source", source, "--step", "sink").output
    assert "events.accepted/3/1205" in by_step
    assert "events.accepted/3/1204" not in by_step
    recent = json.loads(weir("dead", "list", "--source", source, "--since", "1h", "--json").stdout)
    assert [letter["reason"] for letter in recent] == ["unreadable"]

    shown = weir("dead", "show", "events.accepted/3/1204")
    assert shown.exit_code == 0
    assert "00 ff" in shown.output
    assert weir("dead", "show", EVENT_ID).output.count("events.accepted/3/") == 2
    assert weir("dead", "show", "events.accepted/3/9").exit_code == 1
    assert weir("dead", "show", "nonsense").exit_code == 2


# --- what is away


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["topics", "apply"], "Kafka does not answer at 127.0.0.1:"),
        (["apply", "deploy/sources.yaml"], "Kafka does not answer at 127.0.0.1:"),
        (["audit"], "Kafka does not answer at 127.0.0.1:"),
        (["sql", "SELECT 1"], "ClickHouse does not answer at http://127.0.0.1:"),
        (["dead", "list"], "ClickHouse does not answer at http://127.0.0.1:"),
    ],
)
def test_commands_exit_3_with_one_sentence_when_kafka_or_clickhouse_is_down(
    weir: Weir, away: dict[str, str], arguments: list[str], expected: str
) -> None:
    result = weir(*arguments, **away)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"Error: {expected}")
    assert "start it with `weir up`" in result.stderr
    assert result.stderr.count("\n") == 1
