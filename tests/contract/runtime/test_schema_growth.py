"""Records of every schema generation pass through every mix of versions into ClickHouse.

`pytest -s` prints what became of each.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.support.events import accepted, batch_of
from tests.support.next_version import DEFAULT, FIELD, columns, grown
from tests.support.running import RunningKafka
from tests.support.running_gateway import make_topics
from tests.support.running_warehouse import start_warehouse
from weir.adapters import avro
from weir.adapters.avro_catalogue import Catalogue, Schema
from weir.adapters.clickhouse.insert import ClickHouseRows, ClickHouseSchema
from weir.adapters.kafka.clients import write_entries
from weir.adapters.kafka.schema_announcements import SchemasNotReadError, SchemasTopic
from weir.core import topics
from weir.core.batch import Batch, BatchResult, Output
from weir.core.registry import IdMapping
from weir.core.resource_paths import SCHEMAS
from weir.dedup.stage import DedupStage
from weir.identity.snapshot import people_changelog
from weir.identity.stage import IdentityStage
from weir.rates.stage import RatesStage
from weir.runtime.sink_ports import Insert
from weir.settings.shared import ClickHouseSettings, KafkaSettings
from weir.sink.migrations import Dialect, apply_migrations
from weir.sink.step import TABLES, Routes

OLD, NEW = "this version", "the next"
Row = dict[str, Any]


class Versions:
    """This version and the next one, each with what it knows of the other by the topic `schemas`."""

    def __init__(self, folder: Path, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._kafka = kafka
        self.catalogues = {OLD: Catalogue(SCHEMAS), NEW: Catalogue(grown(folder / "schemas"))}
        for name in (OLD, NEW):  # the order in which they were started
            with self.of(name):
                SchemasTopic(kafka).join()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """What runs inside is of that version."""
        with self._monkeypatch.context() as patch:
            patch.setattr(avro, "catalogue", self.catalogues[name])
            yield

    def generations(self) -> list[Schema]:
        return [s for s in self.catalogues[NEW].by_header.values() if s.name == "Accepted"]


class Tables:
    """The next version's tables: it is migrated before anything of it writes."""

    def __init__(self, url: str) -> None:
        self.database = "weir"
        settings = ClickHouseSettings(clickhouse_url=url)
        self.schema = ClickHouseSchema(settings)
        self._rows = ClickHouseRows(settings, 60, 1, compress=False)
        apply_migrations(self.schema, Dialect())

    def migrate(self) -> None:
        (view,) = self.schema.records(
            "SELECT as_select FROM system.tables WHERE name = 'landing_events_to_events'"
        )
        for statement in columns(self.database, view["as_select"]):
            self.schema.execute(statement)

    def insert(self, value: bytes) -> None:
        """As the sink's version at work does it."""
        header = value[: avro.HEADER_BYTES]
        table = Routes(avro.name_of).table(header)
        assert table, f"no table for {avro.name_of(header)!r}"
        self._rows.insert(Insert(table, header, [value], value.hex()))

    def events(self) -> dict[str, Row]:
        found = self.schema.records(f"SELECT * FROM {self.database}.events")
        return {row["idempotency_key"]: row for row in found}

    def close(self) -> None:
        self._rows.close()


@pytest.fixture(scope="module")
def settings(kafka: RunningKafka) -> KafkaSettings:
    make_topics(kafka.bootstrap)
    return KafkaSettings(kafka_bootstrap=kafka.bootstrap)


@pytest.fixture
def versions(settings: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Versions:
    return Versions(tmp_path, settings, monkeypatch)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tables]:
    running = start_warehouse(tmp_path_factory.mktemp("warehouse"))
    found = Tables(running.url)
    try:
        yield found
    finally:
        found.close()
        running.stop()


def nothing(_keys: object) -> dict[bytes, bytes]:
    return {}


def decide(process: Callable[[Batch, Any], BatchResult], output: Output, topic: str) -> BatchResult:
    decided = process(batch_of([output], topic), nothing)
    assert decided.refusals == [], decided.refusals
    return decided


def sent(generation: Schema, key: str) -> Output:
    """What a gateway of that generation writes."""
    event = {
        field["name"]: field["default"]
        for field in generation.definition["fields"]
        if "default" in field
    } | accepted(0, user_id=f"user of {key}", idempotency_key=key, event_id=key.encode()[-16:])
    if FIELD in generation.fields:
        event[FIELD] = "spring"
    return Output(b"shop\0" + key.encode()[-16:], generation.encode(event))


def test_every_schema_generation_passes_every_mix_of_worker_versions(
    versions: Versions, tables: Tables
) -> None:
    before = sent(versions.generations()[0], "key-of-a-row-from-before")
    resolved_before = passed(versions, (OLD, OLD), before)
    with versions.of(OLD):
        tables.insert(resolved_before)
    tables.migrate()
    expected = {"key-of-a-row-from-before": DEFAULT}
    lines = [f"{'generation':20} {'dedup':14} {'identity':14} {'sink':14} {FIELD}"]
    both = (OLD, NEW)
    mixes = product(versions.generations(), both, both, both)
    for number, (generation, dedup, identity, sink) in enumerate(mixes):
        key = f"key-{number:04}-of-a-generation"
        value = passed(versions, (dedup, identity), sent(generation, key))
        with versions.of(sink):
            tables.insert(value)
        expected[key] = "spring" if FIELD in generation.fields else DEFAULT
        row = tables.events()[key]
        assert (row["user_id"], row["event"]) == (f"user of {key}", "page_view")
        assert row["profile_id"]
        assert row["session_id"]
        lines.append(
            f"{generation.header.hex()[4:]:20} {dedup:14} {identity:14} {sink:14} {row[FIELD]}"
        )
    print("\n" + "\n".join(lines))
    assert {key: row[FIELD] for key, row in tables.events().items()} == expected


def passed(versions: Versions, mix: tuple[str, str], output: Output) -> bytes:
    """What dedup and identity of these versions make of an accepted event."""
    dedup, identity = mix
    with versions.of(dedup):
        decided = decide(DedupStage().process, output, topics.ACCEPTED)
    (unique,) = decided.outputs[topics.UNIQUE]
    with versions.of(identity):
        decided = decide(IdentityStage().process, unique, topics.UNIQUE)
        (person,) = decided.changes.values()
        assert people_changelog().decode(b"key", person) == {b"key": person}
    (resolved,) = decided.outputs[topics.RESOLVED]
    return resolved.value


def test_a_rewritten_record_keeps_a_field_unknown_to_this_version(
    versions: Versions,
) -> None:
    (generation,) = (g for g in versions.generations() if FIELD in g.fields)
    event = accepted(7, wants_profile=False, properties='{"customer": "ada"}') | {FIELD: "spring"}
    with versions.of(OLD):
        stage = IdentityStage(lambda _: [IdMapping(event="*", user_id="customer")])
        output = Output(b"acme\0", generation.encode(event))
        decided = decide(stage.process, output, topics.UNIQUE)
    (forwarded,) = decided.outputs[topics.UNIQUE]
    assert generation.decode(forwarded.value)[FIELD] == "spring"
    assert generation.decode(forwarded.value)["user_id"] == "ada"


def test_every_past_schema_is_still_read_and_stored(versions: Versions, tables: Tables) -> None:
    for version in (OLD, NEW):
        with versions.of(version):
            catalogue = versions.catalogues[version]
            for schema in catalogue.by_header.values():
                value = schema.encode(example(schema.definition))
                name, record = avro.decode_any(value)
                assert record.keys() == set(catalogue.current[name].fields)
                if name in TABLES:
                    tables.insert(value)
                if name == "UsageDelta":
                    stage = RatesStage(lambda _: (), set)
                    assert decide(stage.process, Output(b"", value), topics.USAGE).dropped == 1


TEXTS = {"erasure_id": str(uuid.UUID(int=1)), "context": "{}", "properties": "{}", "traits": "{}"}
LEAST: dict[str, Any] = {"string": "", "bytes": b"", "boolean": False, "null": None, "double": 0.0}
LEAST |= {"weir.Uuid": bytes(16), "weir.Hash": bytes(16)}


def example(kind: Any, name: str = "") -> Any:
    """The least value of an Avro type; `name`: of a field that ClickHouse wants a certain text in."""
    if isinstance(kind, list):
        return example(kind[0])
    if isinstance(kind, str):
        return TEXTS.get(name, LEAST.get(kind, 0))
    match kind["type"]:
        case "record":
            return {f["name"]: example(f["type"], f["name"]) for f in kind["fields"]}
        case "fixed":
            return bytes(kind["size"])
        case "array":
            return []
        case plain:
            return example(plain, name)


# --- the topic


def test_a_record_with_an_unannounced_schema_is_refused_as_unreadable(versions: Versions) -> None:
    with versions.of(OLD):
        assert avro.name_of(avro.MARKER + b"8 bytes.") == ""
        output = Output(b"shop\0" + bytes(16), avro.MARKER + b"8 bytes. and a datum")
        decided = DedupStage().process(batch_of([output]), nothing)
    assert [refusal.reason for refusal in decided.refusals] == ["unreadable"]


def test_invalid_entries_of_the_schemas_topic_are_skipped(
    settings: KafkaSettings, versions: Versions
) -> None:
    entries = [(b"garbage", b"{"), (b"none", b'{"type": "record"}'), (b"gone", None)]
    write_entries(settings, topics.SCHEMAS, entries)
    with versions.of(NEW):
        SchemasTopic(settings).announce()
        there = {schema.header for schema in SchemasTopic(settings).read()}
    assert {schema.header for schema in versions.catalogues[NEW].current.values()} <= there


def test_a_batch_with_a_new_schema_is_not_decided_until_kafka_answers(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir.adapters.kafka.schema_announcements.SECONDS", 0.5)
    away = SchemasTopic(
        KafkaSettings(kafka_bootstrap="127.0.0.1:1", kafka_options={"log_level": "0"})
    )
    (generation,) = (g for g in versions.generations() if FIELD in g.fields)
    catalogue = Catalogue(SCHEMAS)
    catalogue.ask = away.read
    monkeypatch.setattr(avro, "catalogue", catalogue)
    output = sent(generation, "key-of-a-newer-record")
    stage = DedupStage()
    with pytest.raises(SchemasNotReadError, match="topics apply"):
        stage.process(batch_of([output]), nothing)
    catalogue.ask = lambda: [generation]  # it answers again
    assert decide(stage.process, output, topics.ACCEPTED).emitted == 1
