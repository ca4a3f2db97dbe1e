"""Migrations are read, rendered and applied once; a changed one is rejected."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from weir.core.resource_paths import MIGRATIONS
from weir.sink.migrations import (
    Dialect,
    Migration,
    MigrationError,
    apply_migrations,
    pending,
    read_migrations,
)

FIRST = Migration(
    1, "one", "CREATE TABLE {{database}}.a {{cluster}} (x Int8)\nENGINE = {{engine X(y)}};\n"
)
SECOND = Migration(2, "two", "-- a remark; with a semicolon\nSELECT 1;\n\nSELECT 2;\n")

CHECKSUMS = Path(__file__).with_name("migrations.sha256")


class Ledger:
    """A database that remembers what was run, and which migrations were recorded."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.rows: list[dict[str, Any]] = []

    def records(self, sql: str) -> list[dict[str, Any]]:
        if "system.tables" in sql:
            return [{"found": 1}] if self.ran else []
        return self.rows

    def execute(self, sql: str) -> None:
        self.ran.append(sql)
        if "INSERT INTO" in sql:
            number, _, sha256 = sql.rpartition("VALUES ")[2].strip("()").split(", ")
            self.rows.append({"number": int(number), "sha256": sha256.strip("'")})


def test_each_migration_is_applied_once_in_order() -> None:
    ledger = Ledger()
    assert apply_migrations(ledger, Dialect(), [FIRST]) == [FIRST]
    assert apply_migrations(ledger, Dialect(), [FIRST, SECOND]) == [SECOND]
    assert apply_migrations(ledger, Dialect(), [FIRST, SECOND]) == []
    assert [sql for sql in ledger.ran if sql.startswith("SELECT")] == ["SELECT 1", "SELECT 2"]


def test_a_changed_migration_is_rejected_with_advice() -> None:
    with pytest.raises(MigrationError, match=r"001_one.sql was changed .* restore it"):
        pending([FIRST, SECOND], {1: "other"})


def test_a_migration_renders_plain_and_replicated_tables() -> None:
    assert FIRST.statements(Dialect("w")) == ["CREATE TABLE w.a (x Int8)\nENGINE = X(y)"]
    assert FIRST.statements(Dialect("w-1", "replicated", "c")) == [
        "CREATE TABLE `w-1`.a ON CLUSTER c (x Int8)\nENGINE = ReplicatedX(y)"
    ]


@pytest.mark.parametrize("engines", ["plain", "replicated"])
def test_rendered_migrations_contain_no_placeholder(engines: str) -> None:
    for migration in read_migrations():
        for statement in migration.statements(Dialect("weir", engines, "main")):
            assert "{{" not in statement
            assert ("Replicated" in statement) == (
                engines == "replicated" and "ENGINE = " in statement and "= Null" not in statement
            )


@pytest.mark.parametrize("names", [["1_a.sql"], ["001_a.sql", "001_b.sql"]])
def test_misnamed_migration_files_are_rejected(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1;\n")
    with pytest.raises(MigrationError):
        read_migrations(tmp_path)


def test_no_migration_was_changed_since_it_was_written() -> None:
    """A changed migration stops `weir migrate` where it has been applied: add a new one instead.

    `cd schemas/clickhouse && sha256sum *.sql > ../../tests/unit/sink/migrations.sha256` adds a new one.
    """
    known = dict(line.split()[::-1] for line in CHECKSUMS.read_text().splitlines())
    for path in sorted(MIGRATIONS.glob("*.sql")):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == known.get(path.name), path.name
