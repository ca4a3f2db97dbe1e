"""Export everything that ClickHouse holds about a person, row by row."""

from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.clickhouse.sql_literals import portions, text
from weir.core.identifiers import content_digest
from weir.erasure.conditions import chosen_of, conditions
from weir.erasure.model import NEVER, ErasedPerson
from weir.erasure.person_rows import PersonRows

ExportRow = dict[str, Any]

# By kind of row: the table or view it is read from, and the table of `conditions` that selects the rows (None:
# selected by profile).
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
SENT = ("properties", "context")  # an event's JSON, as it was sent
# Base64, since the bytes of dead letters and rejected events may not be text.
COLUMNS = {
    "event": f"* EXCEPT ({', '.join((*SENT, *(f'{name}_text' for name in SENT)))}), "
    + ", ".join(f"if({n}_text = '', toString({n}), {n}_text) AS {n}" for n in SENT),
    "rejected": "* EXCEPT (payload), base64Encode(payload) AS payload_64",
    "dead": "* EXCEPT (key, value), base64Encode(key) AS key_64, base64Encode(value) AS value_64",
}


class PersonExport:
    """An export of one person at a time. `ClickHouseUnreachableError`, `ClickHouseRefusedError`."""

    def __init__(self, clickhouse: ClickHouse, database: str) -> None:
        self._rows = PersonRows(clickhouse, database)
        self._database = database

    def rows(
        self, person: ErasedPerson, workspaces: Mapping[str, str]
    ) -> Iterator[tuple[str, ExportRow]]:
        """Yield (kind, row), each row once.

        `person`: with all identifiers (`PersonRows.whole`). `workspaces`: the workspace of each
        declared source.
        """
        found = chosen_of(person, self._rows, self._database, NEVER, workspaces)
        asked = list(portions(found))
        for kind, (source, table) in WRITTEN.items():
            seen: set[bytes] = set()
            for portion in asked:
                condition = self._condition(person.workspace, table, portion)
                columns = COLUMNS.get(kind, "*")
                sql = f"SELECT {columns} FROM {self._database}.{source} WHERE {condition}"
                for row in self._rows.stream(sql):
                    # an event may match one portion by its profile and another by its user
                    if len(asked) == 1 or _is_new(row, seen):
                        yield kind, {name: _plain(kind, name, value) for name, value in row.items()}

    def _condition(self, workspace: str, table: str | None, portion: dict[str, list[str]]) -> str:
        listed = {kind: _listed(values) for kind, values in portion.items()}
        if table is None:
            return f"workspace = {text(workspace)} AND profile_id IN {listed['profile']}"
        return conditions(workspace, NEVER, self._database, listed.__getitem__)[table]


def _is_new(row: ExportRow, seen: set[bytes]) -> bool:
    digest = content_digest(msgspec.json.encode(row))
    is_new = digest not in seen
    seen.add(digest)
    return is_new


def _plain(kind: str, name: str, value: Any) -> Any:
    if kind == "event" and name in SENT:
        # every row is one line of output, but JSON may have line breaks outside its strings
        return msgspec.Raw(value.replace("\n", " ").replace("\r", " ").encode())
    return b64decode(value) if name.endswith("_64") else value


def _listed(values: Sequence[str]) -> str:
    return f"({', '.join(text(value) for value in values)})" if values else "(SELECT '' WHERE 0)"
