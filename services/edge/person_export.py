"""Everything that ClickHouse holds about a person, row by row."""

from base64 import b64decode
from collections.abc import Iterator, Sequence
from typing import Any

from services.core.erasures import NEVER, Person
from services.edge.clickhouse_query import ClickHouse
from services.edge.clickhouse_words import text
from services.edge.person_conditions import chosen_of, conditions
from services.edge.person_rows import PersonRows

Row = dict[str, Any]

# What is written, and the table whose condition says which rows; of dead letters and refusals bytes
# may be no text.
WRITTEN = {
    "profile": ("profiles", None),
    "identifier": ("profile_parts FINAL", "profile_parts"),
    "merge": ("merges FINAL", "merges"),
    "conflict": ("conflicts FINAL", "conflicts"),
    "session": ("sessions", None),
    "event": ("events FINAL", "events"),
    "duplicate": ("duplicates FINAL", "duplicates"),
    "rejected": ("rejected FINAL", "rejected"),
    "dead": ("dead FINAL", "dead"),
}
COLUMNS = {
    "rejected": "* EXCEPT (payload), base64Encode(payload) AS payload_64",
    "dead": "* EXCEPT (key, value), base64Encode(key) AS key_64, base64Encode(value) AS value_64",
}


class PersonExport:
    """`ClickHouseUnreachableError`, `ClickHouseRefusedError`."""

    def __init__(self, clickhouse: ClickHouse, database: str) -> None:
        self._rows = PersonRows(clickhouse, database)
        self._database = database

    def rows(self, person: Person, sources: Sequence[str]) -> Iterator[tuple[str, Row]]:
        """Each row with what it is. `person`: whole. `sources`: of the workspace."""
        found = chosen_of(person, self._rows, self._database, NEVER, sources)
        listed = {kind: _listed(values) for kind, values in found.items()}
        by_table = conditions(person.workspace, NEVER, self._database, listed.__getitem__)
        views = f"workspace = {text(person.workspace)} AND profile_id IN {listed['profile']}"
        for kind, (source, table) in WRITTEN.items():
            condition = views if table is None else by_table[table]
            columns = COLUMNS.get(kind, "*")
            sql = f"SELECT {columns} FROM {self._database}.{source} WHERE {condition}"
            for row in self._rows.stream(sql):
                yield kind, {name: _plain(name, value) for name, value in row.items()}


def _plain(name: str, value: Any) -> Any:
    return b64decode(value) if name.endswith("_64") else value


def _listed(values: Sequence[str]) -> str:
    return f"({', '.join(text(value) for value in values)})" if values else "(SELECT '' WHERE 0)"
