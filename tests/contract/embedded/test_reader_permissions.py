"""A reader may query Weir's data in the embedded engine, and nothing beyond it."""

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.support.running_warehouse import RunningWarehouse, start_warehouse
from weir.cli.migrate import migrate
from weir.settings.shared import ClickHouseSettings, MigrationSettings

OPERATORS = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "operators-password"}
READERS = {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": "readers-password"}
SECRET = "what no query may read"
DENIED, READONLY, FILES = "497", "164", "358"


class Reply(NamedTuple):
    status: int
    code: str | None
    body: str


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWarehouse]:
    folder = tmp_path_factory.mktemp("readers")
    running = start_warehouse(
        folder,
        settings={
            "WEIR_CLICKHOUSE_PASSWORD": OPERATORS["X-ClickHouse-Key"],
            "WEIR_CLICKHOUSE_READER_PASSWORD": READERS["X-ClickHouse-Key"],
        },
    )
    try:
        (folder / "secret.txt").write_text(SECRET)
        settings = ClickHouseSettings(
            clickhouse_port=running.port, clickhouse_password=OPERATORS["X-ClickHouse-Key"]
        )
        migrate(settings, MigrationSettings())
        for sql in ("CREATE DATABASE other", "CREATE TABLE other.t (a Int8) ORDER BY a"):
            assert ask(running, sql, OPERATORS).status == 200
        yield running
    finally:
        running.stop()


def ask(
    warehouse: RunningWarehouse,
    sql: str,
    headers: Mapping[str, str] = READERS,
    arguments: Mapping[str, str] | None = None,
) -> Reply:
    query = f"/?{urllib.parse.urlencode(arguments)}" if arguments else "/"
    request = urllib.request.Request(warehouse.url + query, sql.encode(), dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Reply(answer.status, None, answer.read().decode())
    except urllib.error.HTTPError as fault:
        body = fault.read().decode()
        return Reply(fault.code, fault.headers.get("X-ClickHouse-Exception-Code"), body)


# {file} is a file of the machine's, {out} one that does not exist
HOSTILE = [
    # files, by function and by table function, whatever hides the name
    ("SELECT file('{file}')", DENIED),
    ("SELECT * FROM (SELECT file('{file}'))", DENIED),
    ("WITH (SELECT file('{file}')) AS x SELECT x", DENIED),
    ("SELECT `file`('{file}')", DENIED),
    ('SELECT "fi\\x6ce"(\'{file}\')', DENIED),
    ("SELECT file /* so? */ ('{file}')", DENIED),
    ("SELECT 1 /* /* */ ' */ , file('{file}') --'", DENIED),
    ("SELECT 1 AS a$b$, file('{file}') -- $b$", DENIED),
    ("SELECT 1 \0 , file('{file}')", None),
    ("SELECT `f\\x69le`('{file}')", DENIED),
    ("SELECT '\\\\', file('{file}'), '\\\\'", DENIED),
    ("SELECT '\\\'', file('{file}')", DENIED),
    ("SELECT 1,\n\tfile\n('{file}')\n", DENIED),
    ("SELECT ‘x’, file('{file}'), “y”", None),
    ("SELECT $a$ ' $a$, file('{file}') --'", DENIED),
    ("SELECT arrayMap(file, ['{file}'])", DENIED),
    ("SELECT * APPLY(file) FROM (SELECT '{file}' AS a)", DENIED),
    ("SELECT * APPLY file FROM (SELECT '{file}' AS a)", DENIED),
    ("EXPLAIN SELECT file('{file}')", DENIED),
    ("DESCRIBE (SELECT file('{file}') AS a)", DENIED),
    ("SELECT * FROM file('{file}', 'LineAsString')", DENIED),
    ("SELECT * FROM FiLe('{file}')", DENIED),
    ("DESCRIBE file('{file}')", DENIED),
    ("SELECT * FROM filesystem('/')", DENIED),
    ("SELECT * FROM fileCluster('default', '{file}')", None),
    ("SELECT * FROM sqlite('{file}', 't')", DENIED),
    ("SELECT * FROM icebergLocal('/tmp')", DENIED),
    ("SELECT * FROM `{file}`", None),
    ("SELECT * FROM eval('SELECT file(''{file}'')')", None),
    ("SELECT * FROM eval('SELECT 1') SETTINGS allow_experimental_eval_table_function = 1", READONLY),
    ("SELECT * FROM python(sys)", DENIED),
    ("SELECT 1 INTO OUTFILE '{out}'", FILES),
    ("SELECT 1 /* /* */ ' */ INTO OUTFILE '{out}' --'", FILES),
    ("SELECT 1 AS a$b$ INTO OUTFILE '{out}' -- $b$", FILES),
    ("INSERT INTO weir.events FROM INFILE '{file}' FORMAT LineAsString", FILES),
    # other machines, programs, databases
    ("SELECT * FROM url('http://127.0.0.1:9/x', 'CSV', 'a Int8')", DENIED),
    ("DESCRIBE url('http://127.0.0.1:9/x.csv')", DENIED),
    ("SELECT * FROM (SELECT * FROM url('http://127.0.0.1:9/x.csv'))", DENIED),
    ("SELECT * FROM remote('127.0.0.1:9', system.one)", DENIED),
    ("SELECT * FROM remoteSecure('127.0.0.1:9', system.one)", DENIED),
    ("SELECT * FROM s3('http://127.0.0.1:9/x.csv')", DENIED),
    ("SELECT * FROM mysql('127.0.0.1:9', 'd', 't', 'u', 'p')", DENIED),
    ("SELECT * FROM postgresql('127.0.0.1:9', 'd', 't', 'u', 'p')", DENIED),
    ("SELECT * FROM executable('id', 'TSV', 'a String')", DENIED),
    ("SELECT * FROM cluster('default', system.one)", None),
    ("SELECT aiGenerate('x', map('credentials', 'y'))", DENIED),
    # writes, definitions, and what steers the server
    ("INSERT INTO weir.events (event) VALUES ('x')", READONLY),
    ("INSERT INTO FUNCTION file('{out}') SELECT 1", DENIED),
    ("INSERT INTO weir.events SELECT * FROM weir.events", READONLY),
    ("/* SELECT */ DROP TABLE weir.events", READONLY),
    ("DrOp DATABASE weir", READONLY),
    ("TRUNCATE TABLE weir.events", READONLY),
    ("ALTER TABLE weir.events DELETE WHERE 1", READONLY),
    ("DELETE FROM weir.events WHERE 1", READONLY),
    ("OPTIMIZE TABLE weir.events FINAL", READONLY),
    ("CREATE TABLE weir.mine (a Int8) ENGINE = Memory", READONLY),
    ("CREATE TEMPORARY TABLE mine (a Int8)", READONLY),
    ("CREATE VIEW weir.mine AS SELECT 1", READONLY),
    ("CREATE FUNCTION mine AS x -> x", READONLY),
    ("CREATE DICTIONARY weir.mine (a Int8) PRIMARY KEY a SOURCE(HTTP(URL 'http://127.0.0.1:9'"
     " FORMAT 'CSV')) LAYOUT(FLAT()) LIFETIME(0)", DENIED),
    ("CREATE USER mine", READONLY),
    ("GRANT ALL ON *.* TO default", READONLY),
    ("SET ROLE operator", READONLY),
    ("EXECUTE AS default SELECT 1", None),
    ("SYSTEM SHUTDOWN", READONLY),
    ("KILL QUERY WHERE 1", READONLY),
    ("BACKUP TABLE weir.events TO File('{out}')", DENIED),
    ("USE other", READONLY),
    ("SELECT 1; DROP TABLE weir.events", "62"),
    # limits
    ("SET max_execution_time = 0", READONLY),
    ("SELECT 1 SETTINGS max_memory_usage = 0", READONLY),
    ("SELECT 1 SETTINGS readonly = 0", READONLY),
    # what others have and do
    ("SELECT * FROM weir.erasing", DENIED),
    ("SELECT count() FROM weir.erasing", DENIED),
    ("SELECT * FROM weir.events WHERE user_id IN (SELECT value FROM weir.erasing)", DENIED),
    ("SELECT value FROM merge('weir', '^erasing$')", None),
    ("SELECT * FROM mergeTreeIndex('weir', 'erasing')", None),
    ("SELECT * FROM other.t", DENIED),
    ("SELECT * FROM merge('other', 't')", None),
    ("SELECT * FROM mergeTreeIndex('other', 't')", DENIED),
    ("SELECT * FROM system.users", DENIED),
    ("SELECT * FROM system.grants", DENIED),
    ("SHOW USERS", DENIED),
    ("SELECT query FROM system.processes", DENIED),
    ('SELECT query FROM system."proce\\x73ses"', DENIED),
    ("SELECT * FROM merge('system', '^processes$')", None),
    ("SHOW PROCESSLIST", DENIED),
    ("SELECT * FROM system.stack_trace", DENIED),
    ("SELECT * FROM system.user_query_log", DENIED),
    ("SELECT last_error_message FROM system.errors", DENIED),
    ("SELECT 1 WHERE (SELECT count() FROM system.errors) > 0", DENIED),
    ("EXPLAIN SELECT (SELECT last_error_message FROM system.errors LIMIT 1)", DENIED),
    ("FROM system.errors SELECT value", DENIED),
    ("SELECT * FROM view(SELECT * FROM system.errors)", DENIED),
    ("SELECT * FROM system/**/.`err\x6frs`", DENIED),
    ("SELECT * FROM merge('system', '^errors$')", None),
    ("SELECT * FROM loop('system', 'errors')", None),
    ("SELECT name FROM weir.events, system.errors", DENIED),
    ("SELECT path FROM system.disks", DENIED),
    ("SELECT path FROM system.parts", DENIED),
    ("SELECT * FROM system.detached_parts", DENIED),
    ("SELECT * FROM system.schema_inference_cache", DENIED),
    ("SELECT value FROM system.server_settings", DENIED),
    ("SELECT * FROM system.background_schedule_pool", DENIED),
    ("SELECT * FROM system.mutations", DENIED),
    ("SELECT * FROM system.warnings", DENIED),
    ("SHOW MERGES", DENIED),
    ("SHOW FULL PROCESSLIST", None),
    ("SELECT * FROM system.tables", DENIED),
    ("SELECT tables.* FROM system.tables", DENIED),
    ("SELECT tuple(*) FROM system.tables", DENIED),
    ("SELECT COLUMNS('path') FROM system.databases", DENIED),
    ("SELECT data_paths FROM system.tables", DENIED),
    ("SELECT t.metadata_path FROM system.tables AS t", DENIED),
    ("SELECT `data_\x70ath` FROM system.databases", DENIED),
    ("SELECT * FROM mergeTreeProjection('weir', 'erasing', 'p')", DENIED),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "code"), HOSTILE, ids=[sql[:60] for sql, _ in HOSTILE])
def test_a_reader_is_refused_files_other_hosts_writes_and_system_data(
    warehouse: RunningWarehouse, tmp_path: Path, sql: str, code: str | None
) -> None:
    secret, out = warehouse.log.parent / "secret.txt", tmp_path / "out"
    reply = ask(warehouse, sql.replace("{file}", str(secret)).replace("{out}", str(out)))
    assert reply.status >= 400, reply.body
    assert code is None or reply.code == code, reply.body
    assert SECRET not in reply.body
    assert not out.exists()
    kept = "SELECT count() FROM system.tables WHERE database = 'weir' AND name = 'events'"
    assert ask(warehouse, kept).body == "1\n"


@pytest.mark.parametrize(
    ("sql", "arguments", "code"),
    [
        ("SELECT 1", {"readonly": "0"}, READONLY),
        ("SELECT 1", {"max_execution_time": "0"}, READONLY),
        ("SELECT 1", {"max_memory_usage": "0"}, READONLY),
        ("SELECT 1", {"allow_experimental_eval_table_function": "1"}, READONLY),
        ("SELECT query FROM processes", {"database": "system"}, DENIED),
        ("SELECT query FROM system.{t:Identifier}", {"param_t": "processes"}, DENIED),
        ("SELECT query FROM {d:Identifier}.processes", {"param_d": "system"}, DENIED),
        ("SELECT value FROM errors", {"database": "system"}, DENIED),
        ("SELECT value FROM {d:Identifier}.errors", {"param_d": "system"}, DENIED),
        ("SELECT arrayMap({f:Identifier}, ['/etc/passwd'])", {"param_f": "file"}, DENIED),
        ("(a) VALUES (1)", {"query": "INSERT INTO other.t"}, READONLY),
        ("SELECT * FROM t", {"database": "other"}, DENIED),
        ("SELECT * FROM other.t", {"role": "operator"}, DENIED),
    ],
)
def test_url_parameters_give_a_reader_no_further_rights(
    warehouse: RunningWarehouse, sql: str, arguments: dict[str, str], code: str
) -> None:
    reply = ask(warehouse, sql, arguments=arguments)
    assert reply.code == code, reply.body


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count() FROM weir.events",
        "SELECT event, properties.file, properties.processes FROM weir.events_current",
        "SELECT count() FROM weir.books",
        "SELECT count() FROM weir.events WHERE event = 'file'",
        "SELECT name FROM system.tables WHERE database = 'weir'",
        "SELECT count(*), sum(total_bytes) FROM system.tables WHERE database = 'weir'",
        "SELECT name, engine FROM system.databases",
        "SELECT name, type FROM system.columns WHERE database = 'weir'",
        "SELECT * FROM system.settings LIMIT 1",
        "SELECT name AS data_paths FROM system.columns LIMIT 1",
        "SELECT properties.processes, properties.errors FROM weir.events",
        "SELECT count() AS errors, 'system.errors' AS system FROM weir.events",
        "SHOW DATABASES",
        "SHOW COLUMNS FROM weir.events",
        "SHOW CREATE TABLE weir.events",
        "SELECT table_name FROM information_schema.tables",
        "SHOW TABLES FROM weir",
        "DESCRIBE TABLE weir.events",
        "EXPLAIN SELECT 1",
        "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
        "SELECT sum(number) FROM numbers(10)",
    ],
)
def test_a_reader_can_query_weirs_data_and_schema(warehouse: RunningWarehouse, sql: str) -> None:
    reply = ask(warehouse, sql)
    assert reply.status == 200, reply.body


def test_no_system_table_shows_a_reader_another_users_literal_or_a_path(
    warehouse: RunningWarehouse,
) -> None:
    """Every system table that a reader may read hides data of other users and of the machine."""
    literal, folder = "literal-of-another-user", str(warehouse.log.parent)
    assert ask(warehouse, f"SELECT toInt8('{literal}')", OPERATORS).status == 400
    assert literal in ask(warehouse, "SELECT * FROM system.errors", OPERATORS).body
    every = "SELECT name FROM system.tables WHERE database = 'system'"
    names = ask(warehouse, every, OPERATORS).body.split()
    assert len(names) > 100
    read = 0
    for name in names:
        reply = ask(warehouse, f"SELECT * FROM system.{name} LIMIT 10000 FORMAT JSONEachRow")
        assert literal not in reply.body, name
        assert folder not in reply.body, name
        assert "erasing" not in reply.body, name
        read += reply.status == 200
    assert 10 < read < 40


def test_a_readers_time_and_memory_limits_are_set_by_the_server(
    warehouse: RunningWarehouse,
) -> None:
    limits = "SELECT getSetting('max_execution_time'), getSetting('max_memory_usage')"
    assert ask(warehouse, limits).body == "60\t805306368\n"


def test_clickhouse_connect_queries_as_a_reader_and_cannot_write(
    warehouse: RunningWarehouse,
) -> None:
    client: Any = clickhouse_connect.get_client(
        host="127.0.0.1",
        port=warehouse.port,
        username="reader",
        password=READERS["X-ClickHouse-Key"],
    )
    try:
        found = client.query("SELECT {x:Int32} + 1 AS y", parameters={"x": 41})
        assert found.result_rows == [(42,)]
        with pytest.raises(DatabaseError, match="may only read"):
            client.command("DROP TABLE weir.events")
    finally:
        client.close()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-ClickHouse-User": "reader"},
        {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": OPERATORS["X-ClickHouse-Key"]},
        {"X-ClickHouse-User": "default", "X-ClickHouse-Key": READERS["X-ClickHouse-Key"]},
        {"X-ClickHouse-User": "nobody", "X-ClickHouse-Key": ""},
        {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": "\xff"},
        {"Authorization": "Basic !"},
    ],
)
def test_a_missing_or_another_users_password_is_refused(
    warehouse: RunningWarehouse, headers: dict[str, str]
) -> None:
    reply = ask(warehouse, "SELECT 1", headers)
    assert (reply.status, reply.code) == (401, "516")


def test_the_operator_cannot_reach_files_urls_or_programs_outside_the_engine(
    warehouse: RunningWarehouse,
) -> None:
    secret = warehouse.log.parent / "secret.txt"
    for sql, code in (
        (f"SELECT file('{secret}')", DENIED),
        (f"SELECT * FROM file('{secret}')", DENIED),
        (f"SELECT 1 AS a$b$ INTO OUTFILE '{secret}.out' -- $b$", FILES),
        (f"SELECT 1 /* /* */ ' */ , file('{secret}') --'", DENIED),
        ("CREATE TABLE other.u (a String) ENGINE = URL('http://127.0.0.1:9/x')", DENIED),
        (f"CREATE TABLE other.u (a String) ENGINE = `File`(CSV, '{secret}')", DENIED),
        (
            "CREATE DICTIONARY other.d (a UInt64, b String) PRIMARY KEY a"
            " SOURCE(EXECUTABLE(COMMAND 'id' FORMAT 'TSV')) LAYOUT(FLAT()) LIFETIME(0)",
            DENIED,
        ),
    ):
        reply = ask(warehouse, sql, OPERATORS)
        assert reply.code == code, reply.body
    assert ask(warehouse, "SELECT a FROM other.t", OPERATORS).status == 200
    assert not secret.with_name("secret.txt.out").exists()


def test_the_reader_cannot_write_even_when_no_passwords_are_set(tmp_path: Path) -> None:
    running = start_warehouse(tmp_path)
    try:
        assert ask(running, "CREATE DATABASE weir", {}).status == 200
        assert ask(running, "DROP DATABASE weir", {"X-ClickHouse-User": "reader"}).code == READONLY
        assert ask(running, "DROP DATABASE weir", {}).status == 200
    finally:
        running.stop()
