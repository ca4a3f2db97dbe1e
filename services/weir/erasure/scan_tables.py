"""Search all text columns of all tables of the database, and the kept mutations, for identifiers."""

import re
from base64 import b64decode
from collections.abc import Iterator

from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.clickhouse.sql_literals import portions, text
from weir.erasure.conditions import mentions
from weir.erasure.identifier_scan import IdentifierScan, forms
from weir.erasure.person_rows import PersonRows

TEXTS = re.compile(r"String|JSON|Map|Variant|Dynamic")
AGGREGATE = re.compile(r"^AggregateFunction\(")


class TableScan:
    """One search for identifiers. `ClickHouseUnreachableError`, `ClickHouseRefusedError`."""

    def __init__(self, clickhouse: ClickHouse, database: str, traces: IdentifierScan) -> None:
        self._rows = PersonRows(clickhouse, database)
        self._database = database
        # (identifiers of one portion, identifiers of all earlier portions)
        self._portions: list[tuple[IdentifierScan, IdentifierScan]] = []
        before: list[str] = []
        for some in portions({"identifier": traces.identifiers}, forms):
            self._portions.append((IdentifierScan(some["identifier"]), IdentifierScan(before)))
            before += some["identifier"]

    def tables(self) -> dict[str, str]:
        """Return, by table that keeps rows, an SQL expression that concatenates all its texts."""
        columns = self._rows.records(
            "SELECT table, c.name AS name, c.type AS type FROM system.columns AS c"
            " INNER JOIN system.tables AS t ON t.database = c.database AND t.name = c.table"
            f" WHERE c.database = {text(self._database)} AND endsWith(t.engine, 'MergeTree')"
            " ORDER BY table, c.position"
        )
        found: dict[str, list[str]] = {}
        for column in columns:
            if TEXTS.search(column["type"]):
                found.setdefault(column["table"], []).append(_text(column["name"], column["type"]))
        tables = {
            f"{self._database}.{table}": f"concat({', '.join(texts)}, '')"
            for table, texts in found.items()
        }
        return tables | {"system.mutations": "command"}

    def count(self, table: str, expression: str) -> int:
        """Return the number of the table's rows that have a trace."""
        return sum(
            traces.anywhere(found) and not earlier.anywhere(found)
            for traces, earlier in self._portions
            for found in self._candidates(table, expression, traces)
        )

    def _candidates(self, table: str, expression: str, traces: IdentifierScan) -> Iterator[bytes]:
        rows = self._rows.stream(
            f"SELECT base64Encode(texts) AS texts_64 FROM (SELECT {expression} AS texts FROM {table})"
            f" WHERE {mentions('texts', traces.forms)}"
        )
        return (b64decode(row["texts_64"]) for row in rows)


def _text(name: str, kind: str) -> str:
    if AGGREGATE.match(kind):
        return f"toJSONString(finalizeAggregation(`{name}`)), ' '"
    plain = kind in ("String", "LowCardinality(String)")
    return f"`{name}`, '\\n'" if plain else f"toJSONString(`{name}`), '\\n'"
