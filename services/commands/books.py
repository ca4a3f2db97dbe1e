"""The books, read and judged: what was accepted against what became of it. Pure, save for the questions."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from services.core import topics
from services.edge.clickhouse_query import ClickHouse
from services.edge.kafka_books import Cell, Unread

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
ENTRIES_AT_MOST = 20_000  # of minutes that do not balance by themselves


@dataclass(frozen=True)
class Range:
    """Which part of the books: minutes from `start` up to `end`, one source or all."""

    start: datetime | None = None
    end: datetime | None = None
    source: str = ""

    def where(self, column: str) -> str:
        """The condition on a time column and on `source`, with parameters for its values."""
        conditions = [self.when(column)]
        if self.source:
            conditions.append("source = {source:String}")
        return " AND ".join(conditions)

    def when(self, column: str) -> str:
        """The condition on a time column alone."""
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


class Page(msgspec.Struct, frozen=True):
    """The books of a source, or of a source and minute (`minute` empty: all of the range)."""

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


class Counts(msgspec.Struct, frozen=True):
    """What the witnesses say of a source: the stages' accounts, and the rows that there are."""

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
    """Two neighbouring witnesses of one thing, in the order in which an event passes them."""

    column: str  # of weir.ledger: by how much the second falls short of the first
    place: str
    first: str
    second: str
    on_its_way: tuple[str, ...]  # topics in which what is missing may wait
    others: str = ""  # of weir.ledger: by how much the fingerprints differ


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
OF_PAGES = {check.column for check in CHECKS[:3]}  # the rest is about side tables


class Entry(NamedTuple):
    """A source's minute that does not balance by itself."""

    cell: Cell
    short: Mapping[str, int]  # by a check's column
    others: frozenset[str]  # checks whose counts fit and fingerprints do not


class Finding(NamedTuple):
    """What does not balance. `stage` orders findings as events pass."""

    stage: int
    source: str
    events: int
    text: str


@dataclass
class Judgement:
    """`missing`: of each source's minute, the events (signed) that nothing explains."""

    findings: list[Finding] = field(default_factory=list)
    missing: dict[Cell, int] = field(default_factory=lambda: defaultdict(int))
    blind: str = ""  # why nothing could be judged; empty: it could


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
        pages.append(Page(row["source"], row.get("at", ""), **numbers))
    return pages


def read_counts(clickhouse: ClickHouse, database: str, part: Range) -> list[Counts]:
    names = [name for name in Counts.__struct_fields__ if name != "source"]
    sums = ", ".join(f"sum(l.{name}) AS {name}" for name in names)
    sql = (
        f"SELECT source, {sums} FROM {database}.ledger AS l WHERE {part.where('minute')}"
        " GROUP BY source ORDER BY source"
    )
    return [
        Counts(row["source"], **{name: int(row[name]) for name in names})
        for row in clickhouse.records(sql, part.parameters())
    ]


def read_entries(clickhouse: ClickHouse, database: str, part: Range) -> list[Entry]:
    """The minutes that do not balance by themselves, the earliest first, ENTRIES_AT_MOST of them."""
    shorts = [check.column for check in CHECKS]
    others = {
        check.column: f"has_fingerprints AND {check.column} = 0 AND {check.others} != 0"
        for check in CHECKS
        if check.others
    }
    wrong = [*(f"{name} != 0" for name in shorts), *(f"({text})" for text in others.values())]
    asked = [*shorts, *(f"{text} AS {name}_others" for name, text in others.items())]
    sql = (
        f"SELECT source, toUnixTimestamp(minute) AS at, {', '.join(asked)} FROM {database}.ledger"
        f" WHERE {part.where('minute')} AND ({' OR '.join(wrong)})"
        f" ORDER BY at, source LIMIT {ENTRIES_AT_MOST}"
    )
    return [
        Entry(
            (row["source"], int(row["at"])),
            {name: int(row[name]) for name in shorts},
            frozenset(name for name in others if row[f"{name}_others"]),
        )
        for row in clickhouse.records(sql, part.parameters())
    ]


def judge(entries: Iterable[Entry], unread: Mapping[str, Unread]) -> Judgement:
    """What of the entries is wrong, and not merely on its way.

    A minute of a source that no unread record speaks of is closed: everything that was ever said of
    it is in ClickHouse, so it must balance to the event. Where a topic has too many unread records to
    be looked at, all that is missing behind it together must not be more than they are.
    """
    told = Judgement()
    unknown = {name: of.records for name, of in unread.items() if of.cells is None}
    if topics.USAGE in unknown:
        told.blind = f"{unknown[topics.USAGE]:,} records of usage are unread"
        return told
    moving = {
        cell
        for name, of in unread.items()
        if name != topics.ACCEPTED  # nobody has said anything of these yet
        for cell in of.cells or ()
    }
    faults: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    behind: dict[int, int] = defaultdict(int)
    for entry in entries:
        if entry.cell in moving:
            continue
        source, minute = entry.cell
        for stage, check in enumerate(CHECKS):
            short = entry.short[check.column]
            if short > 0 and any(name in unknown for name in check.on_its_way):
                behind[stage] += short
            elif short or check.column in entry.others:
                faults[stage, source].append((minute, short))
                told.missing[entry.cell] += short if check.column in OF_PAGES else 0
    for (stage, source), minutes in faults.items():
        told.findings.append(_finding(stage, source, minutes))
    for stage, short in behind.items():
        waiting = sum(unknown.get(name, 0) for name in CHECKS[stage].on_its_way)
        if short > waiting:
            check = CHECKS[stage]
            text = f"{check.place}: {short:,} more {check.first} than {check.second}"
            text += f", but only {waiting:,} records are unread"
            told.findings.append(Finding(stage, "", short - waiting, text))
    told.findings.sort()
    return told


def explained(pages: Iterable[Page], judgement: Judgement) -> list[Page]:
    """Pages with the difference that was found; what else is missing is in flight."""
    found = []
    for page in pages:
        cells = (
            missing
            for (source, minute), missing in judgement.missing.items()
            if source == page.source and page.minute in ("", _minute(minute, "%F %T"))
        )
        difference = sum(cells)
        in_flight = max(0, page.in_flight + page.difference - difference)
        found.append(msgspec.structs.replace(page, in_flight=in_flight, difference=difference))
    return found


def _finding(stage: int, source: str, minutes: list[tuple[int, int]]) -> Finding:
    check = CHECKS[stage]
    first, last = _minute(minutes[0][0]), _minute(minutes[-1][0])
    when = f"at {first}" if first == last else f"from {first} to {last}"
    more = sum(short for _, short in minutes if short > 0)
    fewer = -sum(short for _, short in minutes if short < 0)
    parts = []
    if more:
        parts.append(f"{more:,} more {check.first} than {check.second}, and nothing is unread")
    if fewer:
        parts.append(f"{fewer:,} fewer {check.first} than {check.second}")
    if not parts:
        parts.append(f"as many {check.second} as {check.first}, but not the same events")
    text = f"{name_of(source)} {when}: {check.place}: {'; '.join(parts)}"
    return Finding(stage, source, more + fewer or len(minutes), text)


def name_of(source: str) -> str:
    return source or "(source unreadable)"


def _minute(seconds: int, form: str = "%F %H:%M") -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(form)
