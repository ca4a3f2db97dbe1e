"""ClickHouse tells which accepted events are duplicates or dead, on the real engine."""

import uuid

from tests.support import records as rows
from tests.support.events import NOON
from tests.support.migrated_tables import Tables
from weir.adapters.clickhouse.query import ClickHouse
from weir.backfill.present import EventKey, StoredEventsQueries
from weir.core import topics
from weir.redelivery.model import ledger_key
from weir.runtime.sink_ports import PartitionId

PLACE = PartitionId(topics.ACCEPTED, 1)


def warehouse(tables: Tables, *recovered: bytes) -> StoredEventsQueries:
    clickhouse = ClickHouse(tables.settings)
    return StoredEventsQueries(clickhouse, tables.database, lambda: lambda _: False, recovered)


def known(number: int) -> EventKey:
    return EventKey(uuid.UUID(int=number), NOON)


def test_stored_duplicates_are_found_by_their_own_event_ids(tables: Tables) -> None:
    tables.insert("landing_duplicate", rows.duplicate(1), rows.duplicate(2))
    assert warehouse(tables).repeats([known(2), known(3)]) == {uuid.UUID(int=2)}


def test_dead_events_are_found_by_id_or_offset_until_their_letters_are_replayed(
    tables: Tables,
) -> None:
    def died(offset: int, topic: str, step: str, number: int | None) -> bytes:
        event_id = None if number is None else number.to_bytes(16)
        return rows.dead_letter(offset, origin_topic=topic, step=step, event_id=event_id)

    tables.insert(
        "landing_dead_letter",
        died(10, topics.ACCEPTED, "dedup", None),
        died(11, topics.UNIQUE, "identity", 21),
        died(10, topics.RESOLVED, "sink", 22),
        died(10, topics.RESOLVED, "identity", 23),  # another's
    )
    events = {10: known(20), 11: known(99), 12: known(21), 14: known(22), 15: known(98)}
    assert warehouse(tables).dead(PLACE, events) == {10, 12, 14}
    assert warehouse(tables).dead(PartitionId(topics.ACCEPTED, 0), events) == {12, 14}
    recovered = [
        ledger_key("dead", "events.accepted/1/10", "dedup"),
        ledger_key("dead", "events.resolved/1/10", "sink"),
    ]
    assert warehouse(tables, *recovered).dead(PLACE, events) == {12}
    assert warehouse(tables).dead(PLACE, {}) == set()
