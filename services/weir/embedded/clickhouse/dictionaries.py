"""Reloads dictionaries, because the embedded engine itself ignores their LIFETIME.

Called about once a second while rows are written. A dictionary is reloaded when its LIFETIME has
passed and one of its source tables has changed (or anything was written, if its sources are not
known).
"""

import json
from dataclasses import dataclass
from typing import Any

from weir.embedded.clickhouse.engine import Engine, EngineSession, quote_name, quote_text
from weir.embedded.clickhouse.errors import EngineError

_DUE = """
SELECT database, name,
       toUnixTimestamp(now()) - toUnixTimestamp(last_successful_update_time) >= lifetime_min AS due,
       arrayZip(t.loading_dependencies_database, t.loading_dependencies_table) AS sources
FROM system.dictionaries AS d
LEFT JOIN system.tables AS t ON t.database = d.database AND t.name = d.name
WHERE d.status = 'LOADED' AND d.lifetime_max > 0
"""
_VERSIONS = """
SELECT database, table, max(max_block_number) AS block, max(data_version) AS version,
       uniqExact(partition_id) AS partitions
FROM system.parts WHERE active AND (database, table) IN ({tables:Array(Tuple(String, String))})
GROUP BY database, table
"""


@dataclass(frozen=True)
class Refreshed:
    """The dictionaries that were reloaded, and those that failed; `later`: some must still be reloaded."""

    names: list[str]
    failed: list[str]
    later: bool


class Refresher:
    """Reloads dictionaries, and remembers the state of the sources that each was last loaded from."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loaded_from: dict[tuple[str, str], Any] = {}

    def refresh(self, writes: int) -> Refreshed:
        """Reload the dictionaries that have changed and are due. `writes` grows with every write."""
        reloaded: list[str] = []
        failed: list[str] = []
        later = False
        dictionaries = self._rows(_DUE)
        versions = self._versions({tuple(s) for d in dictionaries for s in d["sources"]})
        for dictionary in dictionaries:
            name = (dictionary["database"], dictionary["name"])
            sources = [versions.get(tuple(source)) for source in dictionary["sources"]]
            # A source without parts (a view, an empty table): only the count of writes can show a change.
            state: Any = sources if sources and None not in sources else writes
            if self._loaded_from.get(name) == state:
                continue
            if not dictionary["due"]:
                later = True
                continue
            quoted = ".".join(quote_name(part) for part in name)
            try:
                self._engine.run(
                    EngineSession(tag="refresh"), f"SYSTEM RELOAD DICTIONARY {quoted}", "Null"
                )
            except EngineError:
                failed.append(".".join(name))
                continue
            self._loaded_from[name] = state
            reloaded.append(".".join(name))
        return Refreshed(reloaded, failed, later or bool(failed))

    def _versions(self, tables: set[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[int, ...]]:
        if not tables:
            return {}
        listed = ",".join(
            "(" + ",".join(quote_text(part) for part in table) + ")" for table in tables
        )
        rows = self._rows(_VERSIONS, {"tables": f"[{listed}]"})
        return {
            (row["database"], row["table"]): (row["block"], row["version"], row["partitions"])
            for row in rows
        }

    def _rows(self, sql: str, parameters: dict[str, str] | None = None) -> list[dict[str, Any]]:
        session = EngineSession(tag="refresh", parameters=parameters or {})
        content = self._engine.run(session, sql, "JSONEachRow").content
        return [json.loads(line) for line in content.splitlines()]
