"""`deploy/clickhouse/users.sql` parses on the real engine, and its grants suffice.

The embedded engine keeps no users of SQL's own, so the roles' grants and the profile are taken from
the file into the engine's configuration, where it takes the same words.
"""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.running import bare_environ
from weir.core.resource_paths import ROOT
from weir.sink.migrations import Dialect, apply_migrations, read_migrations

FILE = ROOT / "deploy" / "clickhouse" / "users.sql"
READ_ONLY, ACCESS_DENIED = 164, 497
GRANT = re.compile(r"(GRANT .+ ON .+) TO (\w+)")
POLICY = re.compile(
    r"CREATE ROW POLICY IF NOT EXISTS weir_reader ON system\.(\w+) USING 0 TO weir_reading"
)
PROFILE = re.compile(r"CREATE SETTINGS PROFILE IF NOT EXISTS (\w+) SETTINGS(.+)", re.DOTALL)


class RefusedError(Exception):
    pass


@dataclass
class Engine:
    """`migrations.Database`, as one of the users."""

    process: subprocess.Popen[str]

    def ask(self, sql: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(sql) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def records(self, sql: str) -> list[dict[str, Any]]:
        answer = self.ask(sql)
        if isinstance(answer, dict):
            raise RefusedError(f"{sql}: {answer['fault']}")
        rows: list[dict[str, Any]] = answer
        return rows

    def execute(self, sql: str) -> None:
        self.records(sql)

    def code(self, sql: str) -> int:
        """Of the refusal; 0: it was none."""
        answer = self.ask(sql)
        return int(answer["code"]) if isinstance(answer, dict) else 0


def statements() -> list[str]:
    lines = (line for line in FILE.read_text().splitlines() if not line.startswith("--"))
    return [part.strip() for part in "\n".join(lines).split(";") if part.strip()]


def configured(role: str, profile: str) -> str:
    """The engine's one user, in this role of the file's and with this profile."""
    grants = [found.groups() for one in statements() if (found := GRANT.fullmatch(one))]
    roles = "".join(
        f"<{name}><grants><query>{grant}</query></grants></{name}>" for grant, name in grants
    )
    (found,) = filter(None, map(PROFILE.fullmatch, statements()))
    settings = "".join(
        "<{0}>{1}</{0}>".format(*map(str.strip, pair.split("="))) for pair in found[2].split(",")
    )
    hidden = [policy[1] for one in statements() if (policy := POLICY.fullmatch(one))]
    filters = "".join(f"<{name}><filter>0</filter></{name}>" for name in hidden)
    if role != "weir_reading":
        filters = ""
    return f"""<clickhouse>
        <profiles><default/><{found[1]}>{settings}</{found[1]}></profiles>
        <quotas><default/></quotas>
        <roles>{roles}</roles>
        <users><default>
            <password></password>
            <networks><ip>::/0</ip></networks>
            <profile>{profile}</profile>
            <quota>default</quota>
            <grants><query>GRANT {role}</query></grants>
            <databases><system>{filters}</system></databases>
        </default></users>
    </clickhouse>"""


@contextmanager
def started(folder: Path, role: str, profile: str = "default") -> Iterator[Engine]:
    (folder / "users.xml").write_text(configured(role, profile))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.granted_engine", str(folder)],
        cwd=ROOT,
        env=bare_environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Engine(process)
        except BaseException:
            process.kill()
            raise


def test_the_engine_parses_every_statement_of_users_sql(tmp_path: Path) -> None:
    with started(tmp_path, "weir_operating") as engine:
        for statement in statements():
            assert engine.code(f"EXPLAIN AST {statement}") == 0, statement
        assert engine.code("EXPLAIN AST CREATE ROLL weir") != 0


def test_operator_and_reader_can_do_their_work_and_no_more(tmp_path: Path) -> None:
    with started(tmp_path, "weir_operating") as operator:
        assert apply_migrations(operator, Dialect()) == read_migrations()
        operator.execute("ALTER TABLE weir.events DELETE WHERE 0")
        assert operator.code("CREATE DATABASE other") == ACCESS_DENIED
        assert operator.code("SELECT * FROM file('/etc/passwd', LineAsString)") == ACCESS_DENIED
    with started(tmp_path, "weir_reading", "weir_reader") as reader:
        views = reader.records("SELECT name FROM system.tables WHERE database = 'weir'")
        assert {"events", "events_current", "sessions", "books"} <= {row["name"] for row in views}
        for name in ("events", "events_current", "sessions", "books"):
            assert reader.records(f"SELECT count() AS n FROM weir.{name}") == [{"n": 0}]
        for source in (
            "file('/etc/passwd', LineAsString)",
            "url('http://127.0.0.1:1', LineAsString)",
            "remote('127.0.0.1:1', weir.events)",
            "s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')",
            "mysql('127.0.0.1:1', 'd', 't', 'u', 'p')",
        ):
            assert reader.code(f"SELECT * FROM {source}") in (ACCESS_DENIED, READ_ONLY), source
        for statement in (
            "SELECT * FROM executable('id', CSV, 'a String')",
            "INSERT INTO weir.migrations (number) VALUES (99)",
            "DROP TABLE weir.events",
            "CREATE TABLE weir.mine (a Int8) ENGINE = Memory",
            "CREATE TABLE default.mine (a Int8) ENGINE = Memory",
            "SET max_execution_time = 1000",
            "SELECT 1 SETTINGS max_execution_time = 1000",
        ):
            assert reader.code(statement) in (ACCESS_DENIED, READ_ONLY), statement


def test_row_policies_hide_other_users_data_when_the_server_requires_no_grants(
    tmp_path: Path,
) -> None:
    """The embedded engine requires no grants on system tables, so row policies alone hide the rows."""
    with started(tmp_path, "weir_reading", "weir_reader") as reader:
        assert reader.code("SELECT toInt8('literal-of-somebody')") != 0
        assert reader.records("SELECT name FROM system.settings LIMIT 1") != []
        for name in ("errors", "processes", "schema_inference_cache"):
            assert reader.records(f"SELECT * FROM system.{name}") == []
    with started(tmp_path, "weir_operating") as operator:
        assert operator.code("SELECT toInt8('literal-of-somebody')") != 0
        assert "literal-of-somebody" in str(operator.records("SELECT * FROM system.errors"))


def test_the_server_configuration_requires_grants_for_system_tables() -> None:
    document = ElementTree.fromstring((FILE.parent / "access.xml").read_text())
    path = "access_control_improvements/select_from_system_db_requires_grant"
    assert document.findtext(path) == "true"
