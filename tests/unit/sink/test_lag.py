"""The sink's lag counts every record until it is inserted, whether read or not."""

import pytest
from prometheus_client import REGISTRY

from tests.support import records as rows
from weir.adapters import avro
from weir.adapters.memory_sink import (
    MemoryDeadLetters,
    MemoryInserts,
    MemoryRecords,
    MemoryTopics,
    MemoryWarehouse,
)
from weir.core import topics
from weir.runtime import lag, logs
from weir.runtime.sink_ports import PartitionId
from weir.sink.loop import Options, Ports, Sink
from weir.sink.partition import Limits
from weir.sink.step import Routes

RECORDS = 7
PLACES = {PartitionId(topics.RESOLVED, partition) for partition in range(2)}


@pytest.fixture(autouse=True)
def at_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "EVERY_SECONDS", 0)


def shown_lag() -> dict[str, float]:
    """Of those of the places that are told; the registry is the process's, and has other sinks'."""
    found = {
        f"{place.topic}-{place.partition}": REGISTRY.get_sample_value(
            "weir_lag_records",
            {"service": "sink", "partition": f"{place.topic}-{place.partition}"},
        )
        for place in PLACES
    }
    return {partition: waiting for partition, waiting in found.items() if waiting is not None}


def test_the_sinks_lag_counts_records_until_they_are_inserted() -> None:
    log = MemoryTopics()
    for place in PLACES:
        log.mark(place)
    for number in range(RECORDS):
        log.write(PartitionId(topics.RESOLVED, 1), rows.resolved(number, "p", "s"))
    records, inserts = MemoryRecords(log), MemoryInserts(MemoryWarehouse())
    sink = Sink(
        Ports(records, inserts, MemoryDeadLetters(log)),
        Routes(avro.name_of),
        Options(Limits(0, 100, 1 << 20), 1 << 20, 1),
        logs.get("sink"),
    )
    records.assign(PLACES)
    sink.turn()
    assert shown_lag() == {f"{topics.RESOLVED}-0": 0, f"{topics.RESOLVED}-1": RECORDS}
    while inserts.waiting or any(shown_lag().values()):
        if inserts.waiting:
            inserts.run()
        sink.turn()
    assert shown_lag() == {f"{topics.RESOLVED}-0": 0, f"{topics.RESOLVED}-1": 0}
    records.assign({PartitionId(topics.RESOLVED, 0)})
    sink.turn()
    assert shown_lag() == {f"{topics.RESOLVED}-0": 0}
