"""Check Kafka's offsets against dedup's accounts: dedup must have counted every record it has passed.

The gateway writes events.accepted without transactions, so each offset is a record. Each transaction of
dedup says which offsets it covers and how many events it counted. Where the two differ, the topic itself is
read: redelivered letters are written in transactions, whose markers use up offsets too.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from weir.adapters.clickhouse.query import ClickHouse
from weir.audit.clickhouse_counts import AuditRange, looked_at_in_part
from weir.audit.reconcile import AuditFinding
from weir.audit.unread_counts import Span, UnreadCounter, UnreadCounts
from weir.core import topics
from weir.core.topics import PartitionKey

SUSPECTS_AT_MOST = 500  # each costs one query and one read of the topic
OF_DEDUP = (
    "stage = 'dedup' AND outcome IN ('accepted', 'reread')"
    f" AND origin_topic = '{topics.ACCEPTED}' AND topic_id = {{topic_id:String}}"
)


class Suspect(NamedTuple):
    """Offsets of a partition that dedup has passed but may not have counted."""

    partition: int
    first: int
    end: int

    def overlaps(self, spans: Iterable[Span]) -> bool:
        return any(first < self.end and self.first < end for first, end in spans)


class Offsets:
    """The comparison of Kafka's offsets with dedup's accounts. Adapter errors pass through."""

    def __init__(self, kafka: UnreadCounter, clickhouse: ClickHouse, database: str) -> None:
        self._kafka = kafka
        self._clickhouse = clickhouse
        self._database = database

    def findings(
        self,
        part: AuditRange,
        positions: Mapping[PartitionKey, int],
        unread: Mapping[str, UnreadCounts],
    ) -> tuple[list[AuditFinding], str]:
        """Return the findings (records passed but not counted, or counted twice) and what was not checked.

        There are no findings where accounts say too little: those of earlier versions, and those of a
        topic that was recreated since. What was not checked is a sentence; empty: everything was.
        """
        usage = unread.get(topics.USAGE)
        if usage is None or usage.cells is None or (topics.ACCEPTED, 0) not in positions:
            return [], ""  # some accounts are still unread, or events.accepted does not exist yet
        topic_id = self._kafka.topic_id(topics.ACCEPTED)
        asked = (self._clickhouse, self._database)
        within, there_are = read_within(*asked, part, topic_id)
        found = []
        for suspect in (*within, *read_behind(*asked, positions, topic_id)):
            if not suspect.overlaps(usage.spans.get(suspect.partition, ())):
                found += self._confirmed(suspect, topic_id)
        what = "ranges of offsets that do not match dedup's accounts in ClickHouse"
        return found, looked_at_in_part("between Kafka and dedup", len(within), there_are, what)

    def _confirmed(self, suspect: Suspect, topic_id: str) -> list[AuditFinding]:
        partition, first, end = suspect
        there = self._kafka.records((topics.ACCEPTED, partition), (first, end))
        if there is None:
            return []  # deleted already, or not read in time: left to the checks of rows against accounts
        sql = (
            "SELECT sum(once) AS counted FROM ("
            f"SELECT any(events) AS once FROM {self._database}.usage_deltas WHERE {OF_DEDUP}"
            " AND origin_partition = {partition:Int32}"
            " AND position > {first:Int64} AND position <= {end:Int64}"
            " GROUP BY source, minute, outcome, position)"  # a repeated delta counts once
        )
        values = {"topic_id": topic_id, "partition": partition, "first": first, "end": end}
        (row,) = self._clickhouse.records(sql, values)
        counted = int(row["counted"])
        if there == counted:
            return []
        text = (
            f"between Kafka and dedup: {topics.ACCEPTED}, partition {partition}, offsets {first:,}"
            f" to {end - 1:,}: {there:,} records, but dedup counted {counted:,}"
        )
        return [AuditFinding(-1, "", abs(there - counted), text)]


def read_within(
    clickhouse: ClickHouse, database: str, part: AuditRange, topic_id: str
) -> tuple[list[Suspect], int]:
    """Return (suspects, number): at most SUSPECTS_AT_MOST of them, and how many there are.

    A suspect is a gap between two transactions, or a transaction whose count does not match its offsets. A
    transaction that the bounds of the range may cut is no suspect for its count.
    """
    cuts = ["0"]
    if part.start is not None:
        cuts.append("toUnixTimestamp(min(d.minute)) < {start:Int64} + 60")
    if part.end is not None:
        cuts.append("toUnixTimestamp(max(d.minute)) >= {end:Int64} - 60")
    cut = " OR ".join(cuts)
    sql = (
        "SELECT origin_partition AS partition, least(before, began) AS first, position,"
        " count() OVER () AS there_are FROM ("
        "SELECT *, lagInFrame(position, 1, began)"
        " OVER (PARTITION BY origin_partition ORDER BY position) AS before FROM ("
        "SELECT origin_partition, position, min(d.first) AS began, sum(d.events) AS counted,"
        f" {cut} AS is_cut FROM {database}.usage_deltas AS d"
        f" WHERE {OF_DEDUP} AND {part.when('minute')} GROUP BY origin_partition, position))"
        " WHERE before < began OR (position - began != counted AND NOT is_cut)"
        f" ORDER BY partition, position LIMIT {SUSPECTS_AT_MOST}"
    )
    rows = clickhouse.records(sql, {**part.parameters(), "topic_id": topic_id})
    found = [Suspect(int(r["partition"]), int(r["first"]), int(r["position"])) for r in rows]
    return found, int(rows[0]["there_are"]) if rows else 0


def read_behind(
    clickhouse: ClickHouse, database: str, positions: Mapping[PartitionKey, int], topic_id: str
) -> list[Suspect]:
    """Return, per partition, the offsets from the last counted transaction to the group's position."""
    sql = (
        f"SELECT origin_partition AS partition, max(position) AS counted FROM {database}.usage_deltas"
        f" WHERE stage = 'dedup' AND origin_topic = '{topics.ACCEPTED}'"
        " AND topic_id = {topic_id:String} GROUP BY origin_partition"
    )
    found = []
    for row in clickhouse.records(sql, {"topic_id": topic_id}):
        partition, counted = int(row["partition"]), int(row["counted"])
        position = positions.get((topics.ACCEPTED, partition), -1)
        if counted < position:
            found.append(Suspect(partition, counted, position))
    return found
