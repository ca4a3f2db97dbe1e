"""A migrated database of a test's own, with inserts as the sink makes them."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from weir.adapters.clickhouse.insert import ClickHouseRows, ClickHouseSchema
from weir.runtime.sink_ports import Insert
from weir.settings.shared import ClickHouseSettings
from weir.sink.migrations import Dialect, apply_migrations


class Tables:
    """A migrated database of the test's own."""

    def __init__(self, url: str, database: str = "") -> None:
        self.database = database or f"weir_{uuid.uuid4().hex[:8]}"
        self.settings = ClickHouseSettings(clickhouse_url=url, clickhouse_database=self.database)
        self.schema = ClickHouseSchema(self.settings)
        self.dialect = Dialect(self.database)
        self.rows = ClickHouseRows(self.settings, 60, 2, compress=False)
        self._tokens = 0

    def insert(self, table: str, *values: bytes, token: str = "") -> None:
        self._tokens += 1
        self.rows.insert(Insert(table, values[0][:10], values, token or f"t{self._tokens}"))

    def ask(self, sql: str) -> list[list[Any]]:
        sql = sql.replace("weir.", f"{self.database}.")
        return [list(record.values()) for record in self.schema.records(sql)]

    def one(self, sql: str) -> Any:
        ((value,),) = self.ask(sql)
        return value

    def count(self, table: str) -> int:
        return int(self.one(f"SELECT count() FROM weir.{table}"))

    def empty(self) -> None:
        """No row is left, and no token of an insert remembered, on return; the migrations stay applied."""
        filled = self.ask(
            "SELECT name FROM system.tables WHERE total_rows > 0 AND name != 'migrations'"
            f" AND database = '{self.database}'"
        )
        for (name,) in filled:
            self.schema.execute(f"TRUNCATE TABLE {self.database}.{name}")

    def close(self) -> None:
        self.rows.close()
        self.schema.execute(f"DROP DATABASE {self.database}")


@contextmanager
def migrated_tables(url: str) -> Iterator[Tables]:
    """A new database with all migrations applied; dropped at the end."""
    made = Tables(url)
    apply_migrations(made.schema, made.dialect)
    yield made
    made.close()
