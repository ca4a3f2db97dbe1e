"""The books, read and judged: what was accepted against what became of it. Pure, save for the questions."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from services.edge.clickhouse_query import ClickHouse

COLUMNS = ("accepted", "stored", "duplicate", "dead", "unsaved", "difference")


@dataclass(frozen=True)
class Range:
    """Which part of the books: minutes from `start` up to `end`, one source or all."""

    start: datetime | None = None
    end: datetime | None = None
    source: str = ""

    def where(self, column: str) -> str:
        """The condition on a time column and on `source`, with parameters for its values."""
        conditions = ["1"]
        if self.start is not None:
            conditions.append(f"{column} >= toDateTime({{start:Int64}}, 'UTC')")
        if self.end is not None:
            conditions.append(f"{column} < toDateTime({{end:Int64}}, 'UTC')")
        if self.source:
            conditions.append("source = {source:String}")
        return " AND ".join(conditions)

    def parameters(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if self.start is not None:
            values["start"] = int(self.start.timestamp())
        if self.end is not None:
            values["end"] = int(self.end.timestamp())
        if self.source:
            values["source"] = self.source
        return values


class Page(msgspec.Struct, frozen=True):
    """The books of a source, or of a source and minute (`minute` empty: all of the range)."""

    source: str
    accepted: int
    stored: int
    duplicate: int
    dead: int
    unsaved: int
    difference: int
    minute: str = ""


class Counts(msgspec.Struct, frozen=True):
    """A source's rows, and what the stages' own accounts say there should be."""

    source: str
    rows: int = 0  # of events, as they are
    ids: int = 0  # distinct event ids among them
    duplicate_rows: int = 0
    dead_rows: int = 0
    sink_dead_rows: int = 0
    unique: int = 0
    duplicate: int = 0
    resolved: int = 0
    unsaved: int = 0
    dedup_dead: int = 0
    identity_dead: int = 0
    accepted: int = 0


def read_pages(clickhouse: ClickHouse, database: str, part: Range, minutes: bool) -> list[Page]:
    minute = ", toString(minute) AS at" if minutes else ""
    by = "source, at" if minutes else "source"
    sums = ", ".join(f"sum({name}) AS {name}" for name in COLUMNS)
    sql = (
        f"SELECT source{minute}, {sums} FROM (SELECT * FROM {database}.books"
        f" WHERE {part.where('minute')}) GROUP BY {by} ORDER BY {by}"
    )
    pages = []
    for row in clickhouse.records(sql, part.parameters()):
        numbers = {name: int(row[name]) for name in COLUMNS}
        pages.append(Page(row["source"], minute=row.get("at", ""), **numbers))
    return pages


def read_counts(clickhouse: ClickHouse, database: str, part: Range) -> list[Counts]:
    """Each source's rows and accounts in the range, in one question, so that they fit together."""
    minute = "toStartOfMinute(toDateTime(received_at))"
    events = "stage = 'dedup' AND outcome"
    parts = (
        f"SELECT source, 'rows' AS name, toInt64(count()) AS n FROM {database}.events"
        f" WHERE {part.where(minute)} GROUP BY source",
        f"SELECT source, 'ids', toInt64(uniqExact(event_id)) FROM {database}.events"
        f" WHERE {part.where(minute)} GROUP BY source",
        f"SELECT source, 'duplicate_rows', toInt64(count()) FROM {database}.duplicates FINAL"
        f" WHERE {part.where(minute)} GROUP BY source",
        f"SELECT source, if(step = 'sink', 'sink_dead_rows', 'dead_rows') AS name,"
        f" toInt64(count()) FROM {database}.dead FINAL WHERE {part.where(minute)}"
        " AND (step IN ('dedup', 'identity') OR origin_topic = 'events.resolved')"
        " GROUP BY source, name",
        "SELECT source, multiIf("
        f"{events} = 'dead', 'dedup_dead', outcome = 'dead', 'identity_dead', outcome) AS name,"
        f" sum(events) FROM (SELECT * FROM {database}.usage_deltas FINAL"
        f" WHERE {part.where('minute')}) GROUP BY source, name",
    )
    sql = (
        f"SELECT source, name, sum(n) AS n FROM ({' UNION ALL '.join(parts)}) GROUP BY source, name"
    )
    known = set(Counts.__struct_fields__)
    found: dict[str, dict[str, int]] = {}
    for row in clickhouse.records(sql, part.parameters()):
        if row["name"] in known:
            found.setdefault(row["source"], {})[row["name"]] = int(row["n"])
    return [Counts(source=source, **numbers) for source, numbers in sorted(found.items())]


def findings(pages: Iterable[Page], counts: Iterable[Counts]) -> list[str]:
    """What does not balance, one sentence each; none: the books balance."""
    found = []
    for page in pages:
        if page.difference:
            where = _name(page.source) + (f" at {page.minute}" if page.minute else "")
            more = "more was accepted than" if page.difference > 0 else "less was accepted than"
            found.append(f"{where}: {more} is accounted for, by {abs(page.difference):,}")
    for c in counts:
        found += [f"{_name(c.source)}: {fault}" for fault in _faults(c)]
    return found


def _faults(c: Counts) -> Iterable[str]:
    if c.rows != c.ids:
        yield f"{c.rows:,} rows in events but {c.ids:,} distinct event ids"
    pairs = (
        (
            "accepted",
            c.accepted,
            "unique, duplicate or dead",
            c.unique + c.duplicate + c.dedup_dead,
        ),
        ("unique", c.unique, "resolved, unsaved or dead", c.resolved + c.unsaved + c.identity_dead),
        ("resolved", c.resolved, "stored or refused by ClickHouse", c.rows + c.sink_dead_rows),
        ("duplicate", c.duplicate, "rows in duplicates", c.duplicate_rows),
        ("dead", c.dedup_dead + c.identity_dead, "rows in dead", c.dead_rows),
    )
    for name, counted, other, found in pairs:
        if counted != found:
            yield f"{counted:,} {name} but {found:,} {other}"


def _name(source: str) -> str:
    return source or "(source unreadable)"
