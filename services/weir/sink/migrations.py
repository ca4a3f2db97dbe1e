"""Schema migrations for ClickHouse: numbered SQL files, each applied once, in order, forward only.

The placeholders `{{database}}`, `{{cluster}}`, `{{engine MergeTree}}` and `{{deduplication}}` in a file are
filled in, so that the same files create plain tables on one server and replicated tables on a cluster. Each
statement ends with `;` at the end of a line and is idempotent: a partly applied file is applied again.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from weir.core.resource_paths import MIGRATIONS

FILE_NAME = re.compile(r"(\d{3})_([a-z0-9_]+)\.sql")
# How many inserts a table remembers: 20 minutes at 8 inserts per second.
DEDUPLICATION_WINDOW = 10_000
DEDUPLICATION_SECONDS = 7 * 86_400

LEDGER = """
CREATE TABLE IF NOT EXISTS {{database}}.migrations {{cluster}}
(
    number     UInt32,
    name       String,
    sha256     String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = {{engine ReplacingMergeTree}}
ORDER BY number
"""
CREATE_DATABASE = "CREATE DATABASE IF NOT EXISTS {{database}} {{cluster}}"


class MigrationError(Exception):
    """The files are invalid or do not match the database; the message says what to do, in one sentence."""


class Database(Protocol):
    def records(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of a query as dicts by column name."""

    def execute(self, sql: str) -> None:
        """Run a statement that has no result."""


@dataclass(frozen=True)
class Dialect:
    """How the placeholders are filled in for this ClickHouse installation."""

    database: str = "weir"
    engines: str = "plain"
    cluster: str = ""

    def render(self, sql: str) -> str:
        replicated = self.engines == "replicated"
        window = f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"
        if replicated:
            window = (
                f"replicated_deduplication_window = {DEDUPLICATION_WINDOW},"
                f" replicated_deduplication_window_seconds = {DEDUPLICATION_SECONDS}"
            )
        sql = sql.replace("{{database}}", _quoted(self.database))
        sql = sql.replace(
            " {{cluster}}", f" ON CLUSTER {_quoted(self.cluster)}" if self.cluster else ""
        )
        sql = sql.replace("{{deduplication}}", window)
        return re.sub(r"\{\{engine (.*?)\}\}", r"Replicated\1" if replicated else r"\1", sql)


@dataclass(frozen=True)
class Migration:
    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def file(self) -> str:
        return f"{self.number:03}_{self.name}.sql"

    def statements(self, dialect: Dialect) -> list[str]:
        bare = "\n".join(line for line in self.sql.splitlines() if not line.startswith("--"))
        parts = (part.strip().removesuffix(";") for part in bare.split(";\n"))
        return [dialect.render(part) for part in parts if part]


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Return every migration in order. `MigrationError` if a name is not NNN_name.sql or a number is used twice."""
    migrations: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        named = FILE_NAME.fullmatch(path.name)
        if named is None:
            raise MigrationError(f"{path.name}: a migration must be named like 001_events.sql.")
        number = int(named[1])
        if number in migrations:
            raise MigrationError(f"{path.name}: {migrations[number].file} has the same number.")
        migrations[number] = Migration(number, named[2], path.read_text() + "\n")
    return list(migrations.values())


def pending(migrations: Iterable[Migration], applied: dict[int, str]) -> list[Migration]:
    """Return the migrations not applied yet. `MigrationError` if one was changed after it was applied."""
    due = []
    for migration in migrations:
        known = applied.get(migration.number)
        if known is None:
            due.append(migration)
        elif known != migration.sha256:
            raise MigrationError(
                f"{migration.file} was changed after it had been applied: restore it,"
                " and put the change into a new migration with the next number."
            )
    return due


def applied_to(database: Database, dialect: Dialect) -> dict[int, str]:
    """Return {number: SHA-256} of every applied migration; empty if none was ever applied."""
    name = dialect.database.replace("'", "''")
    known = (
        f"SELECT 1 AS found FROM system.tables WHERE database = '{name}' AND name = 'migrations'"
    )
    if not database.records(known):
        return {}
    sql = dialect.render("SELECT number, sha256 FROM {{database}}.migrations FINAL")
    return {int(row["number"]): str(row["sha256"]) for row in database.records(sql)}


def apply_migrations(
    database: Database, dialect: Dialect, migrations: Iterable[Migration] | None = None
) -> list[Migration]:
    """Apply and record every pending migration, and return them. On return, all migrations are applied."""
    due = pending(
        read_migrations() if migrations is None else migrations, applied_to(database, dialect)
    )
    if not due:
        return []
    database.execute(dialect.render(CREATE_DATABASE))
    database.execute(dialect.render(LEDGER))
    for migration in due:
        for statement in migration.statements(dialect):
            database.execute(statement)
        record = f"({migration.number}, '{migration.name}', '{migration.sha256}')"
        insert = "INSERT INTO {{database}}.migrations (number, name, sha256) VALUES "
        database.execute(dialect.render(insert) + record)
    return due


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`" if not name.isidentifier() else name
