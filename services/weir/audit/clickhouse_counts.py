"""Read the books from ClickHouse: pages, the stages' accounts, and the minutes that do not balance."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from weir.adapters.clickhouse.query import ClickHouse
from weir.audit.unread_counts import SourceMinute
from weir.core import topics

COLUMNS = (
    "accepted",
    "stored",
    "duplicate",
    "dead",
    "unsaved",
    "recovered",
    "erased",
    "in_flight",
    "difference",
)
# Columns of the checks that use identity's account.
OF_IDENTITY = frozenset({"short_of_resolved", "short_of_rows"})
PASSED_BY = (
    "if(has_fingerprints AND short_of_resolved > 0 AND short_of_resolved + short_of_rows = 0"
    " AND resolved_others + stored_others = 0, short_of_resolved, 0) AS passed_by"
)
ENTRIES_AT_MOST = 20_000  # unbalanced minutes to read


@dataclass(frozen=True)
class AuditRange:
    """The part of the books to read: minutes from `start` to before `end`, one source or all."""

    start: datetime | None = None
    end: datetime | None = None
    source: str = ""

    def where(self, column: str) -> str:
        """Return the condition on a time column and on `source`; the values are query parameters."""
        conditions = [self.when(column)]
        if self.source:
            conditions.append("source = {source:String}")
        return " AND ".join(conditions)

    def when(self, column: str) -> str:
        """Return the condition on a time column alone."""
        conditions = ["1"]
        if self.start is not None:
            conditions.append(f"{column} >= toDateTime({{start:Int64}}, 'UTC')")
        if self.end is not None:
            conditions.append(f"{column} < toDateTime({{end:Int64}}, 'UTC')")
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


class AuditPage(msgspec.Struct, frozen=True):
    """The books of a source, or of a source's minute (`minute` empty: the whole range)."""

    source: str
    minute: str = ""
    accepted: int = 0
    stored: int = 0
    duplicate: int = 0
    dead: int = 0
    unsaved: int = 0
    recovered: int = 0
    erased: int = 0
    in_flight: int = 0
    difference: int = 0


class AuditCounts(msgspec.Struct, frozen=True):
    """A source's counts: the stages' accounts and the rows in ClickHouse."""

    source: str
    accepted: int = 0
    unique: int = 0
    duplicate: int = 0
    dedup_dead: int = 0
    resolved: int = 0
    unsaved: int = 0
    identity_erased: int = 0
    identity_dead: int = 0
    rows: int = 0
    erased_rows: int = 0
    sink_dead: int = 0
    duplicate_rows: int = 0
    dead_rows: int = 0
    dedup_recovered: int = 0
    identity_recovered: int = 0
    sink_recovered: int = 0


class Check(NamedTuple):
    """A comparison of two neighbouring counts of the same events, in the order in which an event passes them."""

    column: str  # of weir.ledger: by how much the second count falls short of the first
    place: str
    first: str
    second: str
    on_its_way: tuple[str, ...]  # topics in which missing events may still be unread
    others: str = ""  # of weir.ledger: the difference of the fingerprints


CHECKS = (
    Check("short_of_unique", "in dedup", "accepted", "unique, duplicate or dead", ()),
    Check(
        "short_of_resolved",
        "between dedup and identity",
        "unique",
        "resolved, unsaved, erased or dead",
        (topics.UNIQUE,),
        "resolved_others",
    ),
    Check(
        "short_of_rows",
        "between identity and ClickHouse",
        "resolved",
        "stored, erased or refused",
        (topics.RESOLVED, topics.DEAD),
        "stored_others",
    ),
    Check(
        "short_of_duplicate_rows",
        "between dedup and ClickHouse",
        "duplicate",
        "rows in duplicates",
        (topics.DUPLICATE, topics.DEAD),
        "dropped_others",
    ),
    Check(
        "short_of_dead_rows",
        "between the workers and ClickHouse",
        "dead",
        "rows in dead",
        (topics.DEAD,),
    ),
)


class UnbalancedEntry(NamedTuple):
    """A source's minute that does not balance in ClickHouse's counts alone."""

    cell: SourceMinute
    short: Mapping[str, int]  # by the check's column
    others: frozenset[str]  # checks whose counts match but whose fingerprints do not
    # events without an account of identity whose rows, and no others, are in ClickHouse
    passed_by: int = 0


def read_pages(
    clickhouse: ClickHouse, database: str, part: AuditRange, minutes: bool
) -> list[AuditPage]:
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
        pages.append(AuditPage(row["source"], row.get("at", ""), **numbers))
    return pages


def read_counts(clickhouse: ClickHouse, database: str, part: AuditRange) -> list[AuditCounts]:
    names = [name for name in AuditCounts.__struct_fields__ if name != "source"]
    sums = ", ".join(f"sum(l.{name}) AS {name}" for name in names)
    sql = (
        f"SELECT source, {sums} FROM {database}.ledger AS l WHERE {part.where('minute')}"
        " GROUP BY source ORDER BY source"
    )
    return [
        AuditCounts(row["source"], **{name: int(row[name]) for name in names})
        for row in clickhouse.records(sql, part.parameters())
    ]


def looked_at_in_part(place: str, looked_at: int, there_are: int, what: str) -> str:
    """Return a sentence that says that only a part was checked; empty: everything was."""
    if looked_at >= there_are:
        return ""
    return (
        f"{place}: only {looked_at:,} of {there_are:,} {what} were checked;"
        " check the rest in parts, with --from and --to"
    )


def read_entries(
    clickhouse: ClickHouse, database: str, part: AuditRange
) -> tuple[list[UnbalancedEntry], int]:
    """Return (entries, number): the unbalanced minutes, the earliest first, and how many there are.

    At most ENTRIES_AT_MOST entries are returned.
    """
    shorts = [check.column for check in CHECKS]
    others = {
        check.column: f"has_fingerprints AND {check.column} = 0 AND {check.others} != 0"
        for check in CHECKS
        if check.others
    }
    wrong = [*(f"{name} != 0" for name in shorts), *(f"({text})" for text in others.values())]
    asked = [*shorts, *(f"{text} AS {name}_others" for name, text in others.items()), PASSED_BY]
    sql = (
        f"SELECT source, toUnixTimestamp(minute) AS at, {', '.join(asked)},"
        f" count() OVER () AS there_are FROM {database}.ledger"
        f" WHERE {part.where('minute')} AND ({' OR '.join(wrong)})"
        f" ORDER BY at, source LIMIT {ENTRIES_AT_MOST}"
    )
    rows = clickhouse.records(sql, part.parameters())
    found = [
        UnbalancedEntry(
            (row["source"], int(row["at"])),
            {name: int(row[name]) for name in shorts},
            frozenset(name for name in others if row[f"{name}_others"]),
            int(row["passed_by"]),
        )
        for row in rows
    ]
    return found, int(rows[0]["there_are"]) if rows else 0
