"""Find out which rows ClickHouse has, and which records must not be put back."""

import uuid
from collections.abc import Callable, Collection, Container, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from weir.adapters import avro
from weir.adapters.clickhouse.query import ClickHouse
from weir.backfill.settled_reader import Chunk
from weir.core import topics
from weir.redelivery.model import ledger_key
from weir.runtime.sink_ports import PartitionId

SEGMENTS_LEFT = (
    "session_segments counts {more:,} more events than there are: rows of events are lost, but their"
    " visits are not, so restored events would count twice. Rebuild it first (docs/operations.md)."
)


# The fields that identify a delta.
DELTA = (
    *("source", "minute", "stage", "outcome"),
    *("origin_topic", "origin_partition", "position", "topic_id"),
)


class EventKey(NamedTuple):
    """The fields of an event that are needed to find its row."""

    event_id: uuid.UUID
    received_at: int


class StoredEventsQueries:
    """Questions to ClickHouse. `ClickHouseUnreachableError`, `ClickHouseRefusedError`."""

    def __init__(
        self,
        clickhouse: ClickHouse,
        database: str,
        erased: Callable[[], Callable[[bytes], bool]],
        recovered: Container[bytes] = (),
    ) -> None:
        """`erased`: returns a check, current at the call, whether a record is an erased person's.

        `recovered`: the ledger keys of letters that were sent again. For letters sent later, the sink inserts
        the row.
        """
        self._clickhouse = clickhouse
        self._database = database
        self._erased = erased
        self._recovered = recovered

    def present(self, events: Collection[EventKey]) -> set[uuid.UUID]:
        """Return the ids of the events that have a row."""
        return self._with_row("events", events)

    def _with_row(self, table: str, events: Collection[EventKey]) -> set[uuid.UUID]:
        if not events:
            return set()
        ids = ", ".join(f"'{event.event_id}'" for event in events)
        times = [event.received_at for event in events]
        rows = self._clickhouse.records(
            f"SELECT toString(event_id) AS id FROM {self._database}.{table}"
            " WHERE received_at BETWEEN fromUnixTimestamp64Milli({first:Int64}, 'UTC')"
            f" AND fromUnixTimestamp64Milli({{last:Int64}}, 'UTC') AND event_id IN ({ids})",
            {"first": min(times), "last": max(times)},
        )
        return {uuid.UUID(row["id"]) for row in rows}

    def repeats(self, events: Collection[EventKey]) -> set[uuid.UUID]:
        """Return the ids of the events that dedup has dropped as duplicates."""
        return self._with_row("duplicates", events)

    def dead(self, place: PartitionId, events: Mapping[int, EventKey]) -> set[int]:
        """Return the offsets of the accepted events that died at any step and were not sent again."""
        if not events:
            return set()
        ids = ", ".join(f"'{event.event_id}'" for event in events.values())
        rows = self._clickhouse.records(
            "SELECT origin_topic, origin_partition, origin_offset AS at, step,"
            f" toString(event_id) AS id FROM {self._database}.dead FINAL WHERE event_id IN ({ids})"
            # a record that dedup could not read has no event id in this table
            " OR (origin_topic = {topic:String} AND origin_partition = {partition:Int32}"
            " AND origin_offset BETWEEN {first:Int64} AND {last:Int64})",
            {**place._asdict(), "first": min(events), "last": max(events)},
        )
        ids_dead, offsets_dead = set(), set()
        for row in rows:
            origin = PartitionId(row["origin_topic"], int(row["origin_partition"]))
            letter = f"{origin.topic}/{origin.partition}/{row['at']}"
            if ledger_key("dead", letter, row["step"]) in self._recovered:
                continue
            ids_dead.add(uuid.UUID(row["id"]))
            if origin == place:
                offsets_dead.add(int(row["at"]))
        return {at for at, e in events.items() if at in offsets_dead or e.event_id in ids_dead}

    def barred(self, place: PartitionId, chunk: Chunk) -> set[int]:
        """Return the offsets of records that must not be put back: dead events, and records of erased people."""
        erased = self._erased()
        records = zip(chunk.records.offsets, chunk.records.values, strict=True)
        barred = {at for at, value in records if value is not None and erased(value)}
        return barred | self._dead(place, chunk)

    def _dead(self, place: PartitionId, chunk: Chunk) -> set[int]:
        if place.topic != topics.RESOLVED:
            return set()  # records of other topics that died in the sink may be tried again
        rows = self._clickhouse.records(
            f"SELECT origin_offset AS at FROM {self._database}.dead WHERE step = 'sink'"
            " AND origin_topic = {topic:String} AND origin_partition = {partition:Int32}"
            " AND origin_offset >= {start:Int64} AND origin_offset < {end:Int64}",
            {
                "topic": place.topic,
                "partition": place.partition,
                "start": chunk.start,
                "end": chunk.end,
            },
        )
        return {int(row["at"]) for row in rows}

    def standing(self, place: PartitionId, chunk: Chunk) -> set[int]:
        """Return the offsets of records that have a row, for tables of which the books count every row."""
        if place.topic == topics.DUPLICATE:
            return self._standing_duplicates(chunk)
        if place.topic == topics.USAGE:
            return self._standing_deltas(chunk)
        return set()

    def _standing_duplicates(self, chunk: Chunk) -> set[int]:
        read = dict(_decoded(chunk, "Duplicate"))
        known = [EventKey(uuid.UUID(bytes=r["event_id"]), r["received_at"]) for r in read.values()]
        there = self._with_row("duplicates", known)
        return {at for at, r in read.items() if uuid.UUID(bytes=r["event_id"]) in there}

    def _standing_deltas(self, chunk: Chunk) -> set[int]:
        names = {at: tuple(r[name] for name in DELTA) for at, r in _decoded(chunk, "UsageDelta")}
        if not names:
            return set()
        minutes = [name[1] // 1_000 for name in names.values()]
        positions = [name[DELTA.index("position")] for name in names.values()]
        rows = self._clickhouse.records(
            "SELECT source, toUnixTimestamp(minute) * 1000 AS at, stage, outcome, origin_topic,"
            f" origin_partition, position, topic_id FROM {self._database}.usage_deltas"
            " WHERE minute BETWEEN toDateTime({first:Int64}, 'UTC') AND toDateTime({last:Int64}, 'UTC')"
            " AND position BETWEEN {low:Int64} AND {high:Int64}",
            {
                "first": min(minutes),
                "last": max(minutes),
                "low": min(positions),
                "high": max(positions),
            },
        )
        there = {
            (
                *(row["source"], int(row["at"]), row["stage"], row["outcome"]),
                *(row["origin_topic"], int(row["origin_partition"]), int(row["position"])),
                row["topic_id"],
            )
            for row in rows
        }
        return {at for at, name in names.items() if name in there}

    def events_without_rows(self) -> int:
        """Return how many more events sessions count than `events` has. Live traffic never causes any.

        Sessions are counted first: they are fed from the rows of `events`.
        """
        visits = self._number(f"SELECT sum(events) AS n FROM {self._database}.session_segments")
        rows = self._number(
            f"SELECT count() AS n FROM {self._database}.events WHERE session_id != ''"
        )
        return max(0, visits - rows)

    def _number(self, sql: str) -> int:
        return int(self._clickhouse.records(sql)[0]["n"])


def _decoded(chunk: Chunk, name: str) -> Iterator[tuple[int, avro.AvroRecord]]:
    """Yield (offset, record) of the records with this schema. A record that cannot be read never had a row."""
    for at, value in zip(chunk.records.offsets, chunk.records.values, strict=True):
        if value is None:
            continue
        with suppress(avro.UnknownSchemaError, *avro.GARBAGE_ERRORS):
            found, record = avro.decode_any(value)
            if found == name:
                yield at, record


# The topics of the other tables, in the order in which they must be restored.
SIDE_TOPICS = (
    topics.DEAD,
    topics.RECOVERIES,
    topics.ERASURES,
    topics.REJECTED,
    topics.DUPLICATE,
    topics.USAGE,
    topics.PROFILES,
    topics.QUOTAS,
)
COMPACTED = frozenset({topics.RECOVERIES, topics.ERASURES, topics.PROFILES, topics.QUOTAS})
