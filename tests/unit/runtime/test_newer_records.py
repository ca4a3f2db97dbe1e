"""A worker retries a record whose schema cannot be looked up now and writes no dead letter for it."""

from pathlib import Path

import pytest

from tests.property.test_worker import FaultyStream, Instance
from tests.support.events import accepted
from tests.support.next_version import FIELD, grown
from weir.adapters import avro
from weir.adapters.avro_catalogue import Catalogue, Schema
from weir.adapters.kafka.schema_announcements import SchemasNotReadError
from weir.adapters.memory import MemoryLog
from weir.core import topics
from weir.core.batch import Output
from weir.core.resource_paths import SCHEMAS
from weir.runtime.worker import Worker


def test_a_record_of_a_newer_schema_waits_until_the_schema_lookup_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = Catalogue(grown(tmp_path / "schemas")).current["Accepted"]
    catalogue, asked = Catalogue(SCHEMAS), 0

    def ask() -> list[Schema]:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise SchemasNotReadError("Kafka is away")
        return [newer]

    catalogue.ask = ask
    monkeypatch.setattr(avro, "catalogue", catalogue)
    log = MemoryLog(1)
    record = Output(b"shop\0" + bytes(16), newer.encode(accepted(1) | {FIELD: "spring"}))
    log.write(topics.ACCEPTED, [record])
    instance = Instance(log, FaultyStream, Worker)
    instance.assign({0})
    turns = 0
    while not log.partition(topics.UNIQUE, 0):
        instance.turn()
        turns += 1
        assert turns < 20, "it never gets on"
    assert [one.value for one in log.partition(topics.UNIQUE, 0)] == [record.value]
    assert log.partition(topics.DEAD, 0) == []
    assert asked == 3
