"""What ClickHouse has, and what it may not get back."""

import uuid
from collections.abc import Callable, Collection
from typing import NamedTuple

from services.core import topics
from services.edge.clickhouse_query import ClickHouse
from services.edge.kafka_history import Chunk
from services.sink.ports import Place

SEGMENTS_LEFT = (
    "session_segments counts {more:,} events more than there are: rows of events are gone whose"
    " visits still stand, and would be counted twice. Make it anew first (docs/operations.md)."
)


class Known(NamedTuple):
    """What is to be known of an event to find its row."""

    event_id: uuid.UUID
    received_at: int


class Warehouse:
    """Questions to ClickHouse. `ClickHouseUnreachableError`, `ClickHouseRefusedError`."""

    def __init__(
        self, clickhouse: ClickHouse, database: str, is_erased: Callable[[bytes], bool]
    ) -> None:
        """`is_erased`: whether a record is of somebody who was erased since."""
        self._clickhouse = clickhouse
        self._database = database
        self._is_erased = is_erased

    def present(self, events: Collection[Known]) -> set[uuid.UUID]:
        """Which of these have a row."""
        if not events:
            return set()
        ids = ", ".join(f"'{event.event_id}'" for event in events)
        times = [event.received_at for event in events]
        rows = self._clickhouse.records(
            f"SELECT toString(event_id) AS id FROM {self._database}.events"
            " WHERE received_at BETWEEN fromUnixTimestamp64Milli({first:Int64}, 'UTC')"
            f" AND fromUnixTimestamp64Milli({{last:Int64}}, 'UTC') AND event_id IN ({ids})",
            {"first": min(times), "last": max(times)},
        )
        return {uuid.UUID(row["id"]) for row in rows}

    def barred(self, place: Place, chunk: Chunk) -> set[int]:
        """The offsets of records that may not come back: the sink's dead letters, and erased people's."""
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
        records = zip(chunk.records.offsets, chunk.records.values, strict=True)
        erased = {at for at, value in records if value is not None and self._is_erased(value)}
        return erased | {int(row["at"]) for row in rows}

    def events_without_rows(self) -> int:
        """Events that visits count and `events` does not have. Live traffic never makes any.

        Visits are asked first, since they are fed from rows.
        """
        visits = self._number(f"SELECT sum(events) AS n FROM {self._database}.session_segments")
        rows = self._number(
            f"SELECT count() AS n FROM {self._database}.events WHERE session_id != ''"
        )
        return max(0, visits - rows)

    def _number(self, sql: str) -> int:
        return int(self._clickhouse.records(sql)[0]["n"])


# The other tables' topics, each in the order in which it must be there for the next.
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
