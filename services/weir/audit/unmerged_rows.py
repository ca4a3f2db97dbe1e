"""Subtract copies of rows that ClickHouse has not merged yet. Copies replace each other, so they count once.

Copies come from a record that is in its topic twice, or from an insert that is repeated after ClickHouse
has forgotten its token. The views of the books count every row as it is, so the entries that they report
are corrected here before they are judged again.
"""

from collections.abc import Iterable, Mapping

from weir.adapters.clickhouse.query import ClickHouse
from weir.audit.clickhouse_counts import UnbalancedEntry
from weir.audit.unread_counts import SourceMinute

# By account or rows: how much one surplus event changes the shortfall of each check.
EFFECTS: Mapping[str, Mapping[str, int]] = {
    "dedup_accepted": {"short_of_unique": 1},
    "dedup_unique": {"short_of_unique": -1, "short_of_resolved": 1},
    "dedup_duplicate": {"short_of_unique": -1, "short_of_duplicate_rows": 1},
    "dedup_dead": {"short_of_unique": -1, "short_of_dead_rows": 1},
    "identity_resolved": {"short_of_resolved": -1, "short_of_rows": 1},
    "identity_unsaved": {"short_of_resolved": -1},
    "identity_erased": {"short_of_resolved": -1},
    "identity_dead": {"short_of_resolved": -1, "short_of_dead_rows": 1},
    "duplicate_rows": {"short_of_duplicate_rows": -1},
}

Copies = Mapping[SourceMinute, Mapping[str, int]]  # surplus events, by account


def without_copies(entries: Iterable[UnbalancedEntry], copies: Copies) -> list[UnbalancedEntry]:
    """Return the entries as they are once ClickHouse has merged the copies, without those that balance then."""
    found = []
    for entry in entries:
        short = dict(entry.short)
        for name, events in copies.get(entry.cell, {}).items():
            for column, effect in EFFECTS.get(name, {}).items():
                short[column] -= effect * events
        corrected = entry._replace(short=short)
        if entry.others or any(short.values()):
            found.append(corrected)
    return found


def read_copies(
    clickhouse: ClickHouse, database: str, entries: Iterable[UnbalancedEntry]
) -> Copies:
    """Return the copies from the earliest to the latest minute of the entries. Adapter errors pass through."""
    minutes = [minute for _, minute in (entry.cell for entry in entries)]
    if not minutes:
        return {}
    parameters = {"first": min(minutes), "last": max(minutes)}
    within = "BETWEEN toDateTime({first:Int64}, 'UTC') AND toDateTime({last:Int64}, 'UTC')"
    accounts = (
        "SELECT source, minute, concat(stage, '_', outcome) AS name,"
        " (count() - 1) * any(d.events) AS more"
        f" FROM {database}.usage_deltas AS d WHERE minute {within}"
        " GROUP BY source, minute, stage, outcome, origin_topic, origin_partition, position, topic_id"
        " HAVING count() > 1"
    )
    rows = (
        "SELECT source, toStartOfMinute(toDateTime(received_at)) AS minute, 'duplicate_rows' AS name,"
        f" count() - 1 AS more FROM {database}.duplicates"
        f" WHERE toStartOfMinute(toDateTime(received_at)) {within}"
        " GROUP BY source, received_at, event_id HAVING count() > 1"
    )
    sql = (
        "SELECT source, toUnixTimestamp(minute) AS at, name, sum(more) AS events"
        f" FROM ({accounts} UNION ALL {rows}) GROUP BY source, at, name"
    )
    found: dict[SourceMinute, dict[str, int]] = {}
    for row in clickhouse.records(sql, parameters):
        cell = (row["source"], int(row["at"]))
        found.setdefault(cell, {})[row["name"]] = int(row["events"])
    return found
