"""Run one audit: compare Kafka, the stages' accounts and ClickHouse, read in an order that keeps them consistent."""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from weir.adapters.clickhouse.query import ClickHouse
from weir.audit.clickhouse_counts import (
    AuditCounts,
    AuditPage,
    AuditRange,
    looked_at_in_part,
    read_counts,
    read_entries,
    read_pages,
)
from weir.audit.offsets import Offsets
from weir.audit.reconcile import explained, reconcile
from weir.audit.unmerged_rows import read_copies, without_copies
from weir.audit.unread_counts import AUDITED, UnreadCounter, UnreadCounts
from weir.settings.shared import ClickHouseSettings, KafkaSettings

LOOK_SECONDS = 0.5
SURE_LOOKS = 3  # reads before a finding counts: an erasure or a replay may be running just now


@dataclass(frozen=True)
class Audit:
    """The result of one audit. `unread`: unread records by group and source (where few enough to be read)."""

    in_flight: dict[str, int]  # records that each group has yet to read
    held: dict[str, int]  # of these, those behind an open transaction: no reader gets them yet
    unread: dict[str, dict[str, int]]
    pages: list[AuditPage]
    counts: list[AuditCounts]
    findings: list[str]
    differences: dict[str, int]  # by source, the number of events in findings
    blind: str  # why nothing could be judged; empty: everything could
    remarks: list[str]  # oddities in which no event is lost or doubled
    partly: list[str]  # what was only checked in part, one sentence each

    @property
    def balanced(self) -> bool:
        return not self.findings

    @property
    def settled(self) -> bool:
        return self.balanced and not self.blind and not any(self.in_flight.values())


class Auditor:
    """A reader of the books; close it. Adapter errors pass through."""

    def __init__(self, kafka: KafkaSettings, clickhouse: ClickHouseSettings) -> None:
        self._kafka = UnreadCounter(kafka)
        self._clickhouse = ClickHouse(clickhouse)
        self._database = clickhouse.clickhouse_database
        self._offsets = Offsets(self._kafka, self._clickhouse, self._database)

    def read(self, part: AuditRange, minutes: bool = False, ids: bool = False) -> Audit:
        """Read the groups' positions, then rows and accounts, then the records after those positions.

        So every record that moved while rows and accounts were read is among the unread. `minutes`:
        pages per minute. `ids`: also compare rows with distinct event ids, which reads all rows.
        """
        positions = self._kafka.positions()
        pages = read_pages(self._clickhouse, self._database, part, minutes)
        counts = read_counts(self._clickhouse, self._database, part)
        entries, there_are = read_entries(self._clickhouse, self._database, part)
        doubles = self._doubles(part) if ids else []
        unread = self._kafka.unread(positions)
        reconciled = reconcile(entries, unread)
        if reconciled.findings:
            copies = read_copies(self._clickhouse, self._database, entries)
            reconciled = reconcile(without_copies(entries, copies), unread)
        of_offsets, not_looked_at = self._offsets.findings(part, positions, unread)
        found = [*of_offsets, *reconciled.findings]
        what = "minutes that do not balance in ClickHouse alone"
        of_minutes = looked_at_in_part("all stages", len(entries), there_are, what)
        differences: dict[str, int] = dict.fromkeys((page.source for page in pages), 0)
        for finding in found:
            differences[finding.source] = differences.get(finding.source, 0) + finding.events
        return Audit(
            {g: sum(unread[t].records for t in read if t in unread) for g, read in AUDITED.items()},
            {g: sum(unread[t].held for t in read if t in unread) for g, read in AUDITED.items()},
            {group: _by_source(unread, read) for group, read in AUDITED.items()},
            explained(pages, reconciled),
            counts,
            [*(finding.text for finding in found), *doubles],
            differences,
            reconciled.blind,
            reconciled.remarks,
            [text for text in (not_looked_at, of_minutes) if text],
        )

    def read_surely(
        self,
        read: Callable[[], Audit],
        wait_seconds: float = 0.0,
        report: Callable[[str], None] = lambda doing: None,
    ) -> Audit:
        """Repeat `read` while events are in flight, for at most `wait_seconds`.

        Findings are read again in any case until SURE_LOOKS reads in a row have found some.
        """
        deadline = time.monotonic() + wait_seconds
        sure = 0
        report("reading the books")
        while True:
            audit = read()
            if audit.settled:
                return audit
            sure = 0 if audit.balanced else sure + 1
            is_moving = audit.blind or any(audit.in_flight.values())
            is_over = time.monotonic() >= deadline
            if audit.balanced and is_over:
                return audit
            if sure >= SURE_LOOKS and (is_over or not is_moving):
                return audit
            waiting = sum(audit.in_flight.values())
            report(f"waiting: {waiting:,} records in flight" if waiting else "checking again")
            time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        self._kafka.close()

    def _doubles(self, part: AuditRange) -> list[str]:
        sql = (
            "SELECT source, count() AS rows, uniqExact(event_id) AS ids"
            f" FROM {self._database}.events WHERE {part.where('received_at')}"
            " GROUP BY source HAVING rows != ids ORDER BY source"
        )
        return [
            f"{row['source']}: {int(row['rows']):,} rows in events, {int(row['ids']):,} distinct ids"
            for row in self._clickhouse.records(sql, part.parameters())
        ]


def _by_source(unread: dict[str, UnreadCounts], names: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        for (source, _), records in (unread[name].cells or {} if name in unread else {}).items():
            found[source] = found.get(source, 0) + records
    return found


def as_json(audit: Audit) -> str:
    fields = {f.name: getattr(audit, f.name) for f in dataclasses.fields(audit)}
    return msgspec.json.encode({"balanced": audit.balanced, **fields}).decode()
