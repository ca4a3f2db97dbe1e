"""Judge the books: find what is unbalanced and not explained by unread records. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from weir.audit.clickhouse_counts import CHECKS, OF_IDENTITY, AuditPage, UnbalancedEntry
from weir.audit.unread_counts import SourceMinute, UnreadCounts
from weir.core import topics

NAME_CHARACTERS = 48  # of a source's name in a finding
OF_PAGES = {check.column for check in CHECKS[:3]}  # the other checks are about side tables


class AuditFinding(NamedTuple):
    """Something that does not balance. `stage` sorts findings in the order in which events pass the stages."""

    stage: int
    source: str
    events: int
    text: str


@dataclass
class Reconciliation:
    """The result of a comparison. `missing`: by source and minute, the unexplained events (signed)."""

    findings: list[AuditFinding] = field(default_factory=list)
    missing: dict[SourceMinute, int] = field(default_factory=lambda: defaultdict(int))
    blind: str = ""  # why nothing could be judged; empty: everything could
    # oddities in which no event is lost or doubled
    remarks: list[str] = field(default_factory=list)


def reconcile(
    entries: Iterable[UnbalancedEntry], unread: Mapping[str, UnreadCounts]
) -> Reconciliation:
    """Find the entries that are unbalanced and not explained by unread records.

    A source's minute with no unread record is closed: ClickHouse has every account and row of it, so it must
    balance to the event. Where a topic has too many unread records to be read, the total that is missing
    behind it must not exceed their number.
    """
    result = Reconciliation()
    unknown = {name: of.records for name, of in unread.items() if of.cells is None}
    if topics.USAGE in unknown:
        result.blind = f"{unknown[topics.USAGE]:,} records of usage are unread"
        return result
    moving = {
        cell
        for name, of in unread.items()
        if name != topics.ACCEPTED  # no stage has counted these yet
        for cell in of.cells or ()
    }
    faults: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
    behind: dict[int, int] = defaultdict(int)
    passed_by: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for entry in entries:
        if entry.cell in moving:
            continue
        source, minute = entry.cell
        if entry.passed_by:
            passed_by[source].append((minute, entry.passed_by))
        for stage, check in enumerate(CHECKS):
            if entry.passed_by and check.column in OF_IDENTITY:
                continue  # dedup's account and the rows agree; only identity's account is missing
            short = entry.short[check.column]
            if short > 0 and any(name in unknown for name in check.on_its_way):
                behind[stage] += short
            elif short or check.column in entry.others:
                faults[stage, source].append((minute, short))
                result.missing[entry.cell] += short if check.column in OF_PAGES else 0
    for (stage, source), minutes in faults.items():
        result.findings.append(_finding(stage, source, minutes))
    for stage, short in behind.items():
        waiting = sum(unknown.get(name, 0) for name in CHECKS[stage].on_its_way)
        if short > waiting:
            check = CHECKS[stage]
            text = f"{check.place}: {short:,} more {check.first} than {check.second}"
            text += f", but only {waiting:,} records are unread"
            result.findings.append(AuditFinding(stage, "", short - waiting, text))
    result.findings.sort()
    result.remarks = [_remark(source, minutes) for source, minutes in sorted(passed_by.items())]
    return result


def explained(pages: Iterable[AuditPage], reconciled: Reconciliation) -> list[AuditPage]:
    """Return the pages with the judged difference; whatever else is missing counts as in flight."""
    found = []
    for page in pages:
        cells = (
            missing
            for (source, minute), missing in reconciled.missing.items()
            if source == page.source and page.minute in ("", _minute(minute, "%F %T"))
        )
        difference = sum(cells)
        in_flight = max(0, page.in_flight + page.difference - difference)
        found.append(msgspec.structs.replace(page, in_flight=in_flight, difference=difference))
    return found


def _remark(source: str, minutes: list[tuple[int, int]]) -> str:
    events = sum(number for _, number in minutes)
    return (
        f"{_name(source)} {_when(minutes)}: {events:,} stored events that dedup counted as unique are"
        " missing in identity's accounts: they were restored from events.accepted, or the accounts"
        " are lost. Counts of people may lack them."
    )


def _when(minutes: list[tuple[int, int]]) -> str:
    first, last = _minute(minutes[0][0]), _minute(minutes[-1][0])
    return f"at {first}" if first == last else f"from {first} to {last}"


def _finding(stage: int, source: str, minutes: list[tuple[int, int]]) -> AuditFinding:
    check = CHECKS[stage]
    more = sum(short for _, short in minutes if short > 0)
    fewer = -sum(short for _, short in minutes if short < 0)
    parts = []
    if more:
        parts.append(f"{more:,} more {check.first} than {check.second}, and nothing is unread")
    if fewer:
        parts.append(f"{fewer:,} fewer {check.first} than {check.second}")
    if not parts:
        parts.append(f"as many {check.second} as {check.first}, but not the same events")
    text = f"{_name(source)} {_when(minutes)}: {check.place}: {'; '.join(parts)}"
    return AuditFinding(stage, source, more + fewer or len(minutes), text)


def _name(source: str) -> str:
    if len(source) > NAME_CHARACTERS:
        return source[: NAME_CHARACTERS - 1] + "…"
    return source or "(source unreadable)"


def _minute(seconds: int, form: str = "%F %H:%M") -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(form)
