"""The parser separates SQL from inserted rows as ClickHouse does and rejects unsafe statements."""

from contextlib import nullcontext

import pytest

from weir.embedded.clickhouse.errors import EngineError
from weir.embedded.clickhouse.readers import refuse_beyond_readers
from weir.embedded.clickhouse.statements import InsertStatement, Statement, parse


@pytest.mark.parametrize(
    ("query", "body", "head", "form", "payload"),
    [
        ("INSERT INTO t FORMAT CSV", b"1\n", "INSERT INTO t ", "CSV", b"1\n"),
        ("insert into t format Avro", b"Obj\x01\x00", "insert into t ", "Avro", b"Obj\x01\x00"),
        ("", b"INSERT INTO t FORMAT CSV\n1\n", "INSERT INTO t ", "CSV", b"1\n"),
        ("", b"INSERT INTO t FORMAT CSV 1\n", "INSERT INTO t ", "CSV", b"1\n"),
        ("", b"INSERT INTO t (a) VALUES (1)", "INSERT INTO t (a) ", "Values", b"(1)"),
        ("INSERT INTO t VALUES", b"(1)", "INSERT INTO t ", "Values", b"(1)"),
        ("INSERT INTO t FORMAT VALUES", b"(1)", "INSERT INTO t ", "Values", b"(1)"),
        ("INSERT INTO t FORMAT CSV\n1", b"2\n", "INSERT INTO t ", "CSV", b"1\n2\n"),
        ("INSERT INTO t", b"FORMAT CSV\n1\n", "INSERT INTO t\n", "CSV", b"1\n"),
        (
            "/* FORMAT A */ INSERT -- x FORMAT B\n INTO t FORMAT C",
            b"1",
            "/* FORMAT A */ INSERT -- x FORMAT B\n INTO t ",
            "C",
            b"1",
        ),
        ("INSERT INTO format FORMAT CSV", b"1", "INSERT INTO format ", "CSV", b"1"),
        ("INSERT INTO db.values FORMAT CSV", b"1", "INSERT INTO db.values ", "CSV", b"1"),
        ("INSERT INTO `a FORMAT b` FORMAT CSV", b"", "INSERT INTO `a FORMAT b` ", "CSV", b""),
        (
            "INSERT INTO TABLE FUNCTION null('a Int8') FORMAT CSV",
            b"1",
            "INSERT INTO TABLE FUNCTION null('a Int8') ",
            "CSV",
            b"1",
        ),
        (
            "INSERT INTO {d:Identifier}.{t:Identifier} (a, b) SETTINGS x = 'FORMAT' FORMAT CSV",
            b"1",
            "INSERT INTO {d:Identifier}.{t:Identifier} (a, b) ",
            "CSV",
            b"1",
        ),
        (
            "INSERT INTO settings (settings) FORMAT CSV",
            b"1",
            "INSERT INTO settings (settings) ",
            "CSV",
            b"1",
        ),
    ],
)
def test_an_insert_is_split_into_statement_format_and_rows(
    query: str, body: bytes, head: str, form: str, payload: bytes
) -> None:
    insert = parse(query, body)
    assert isinstance(insert, InsertStatement)
    assert (insert.head, insert.format, bytes(insert.payload)) == (head, form, payload)


def test_settings_of_an_insert_are_separated_from_its_head() -> None:
    insert = parse("INSERT INTO t (a) SETTINGS x = 'FORMAT', y = 1 FORMAT CSV", b"1")
    assert isinstance(insert, InsertStatement)
    assert (insert.head, insert.settings) == ("INSERT INTO t (a) ", "SETTINGS x = 'FORMAT', y = 1 ")


def test_the_payload_of_an_insert_is_not_copied() -> None:
    body = b"x" * 1000
    insert = parse("INSERT INTO t FORMAT RowBinary", body)
    assert isinstance(insert, InsertStatement)
    assert insert.payload.obj is body


@pytest.mark.parametrize(
    ("sql", "form"),
    [
        ("SELECT 1", None),
        ("SELECT 1 FORMAT JSON", "JSON"),
        ("SELECT 1 FORMAT JSON SETTINGS max_threads = 1;", "JSON"),
        ("SELECT 'FORMAT CSV' -- FORMAT TSV", None),
        ("SELECT * FROM (SELECT 1 FORMAT CSV)", None),
        ("INSERT INTO t SELECT * FROM u", None),
        ("INSERT INTO t (a) (SELECT 1)", None),
        ("INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x", None),
        ("INSERT INTO t", None),
        ("WITH 1 AS x SELECT x FORMAT CSV", "CSV"),
        ("", None),
        ("/* never closed", None),
        ("SELECT 'never closed FORMAT CSV", "CSV"),
    ],
)
def test_a_statement_without_rows_is_kept_whole_with_its_format(sql: str, form: str | None) -> None:
    assert parse(sql, b"") == Statement(sql, form)
    assert parse("", sql.encode()) == Statement(sql, form)


def test_query_and_body_are_joined_into_one_statement() -> None:
    assert parse("SELECT 1", b"+ 1 FORMAT CSV") == Statement("SELECT 1\n+ 1 FORMAT CSV", "CSV")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 INTO OUTFILE 'x'",
        "select 1 into /* */ outfile 'x' format CSV",
        "INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        "INSERT INTO t FROM\u00a0INFILE 'x' FORMAT CSV",
        "INSERT INTO t (\u201c'\u201d) FROM INFILE 'x' FORMAT CSV",
        "INSERT INTO t (\u00a0\u201c'\u201d) FROM INFILE 'x' FORMAT CSV",
        "SELECT 1 /* /* */ ' */ INTO OUTFILE 'x' --'",
        "SELECT 1 AS a$b$ INTO OUTFILE 'x' -- $b$",
    ],
)
def test_statements_that_read_or_write_server_files_are_rejected(sql: str) -> None:
    with pytest.raises(EngineError) as caught:
        parse(sql, b"")
    assert caught.value.code == 358


@pytest.mark.parametrize(
    "sql", ["SELECT file('x')", "SELECT `file` /**/ ('x')", 'SELECT "file"(1)']
)
def test_the_file_function_is_rejected(sql: str) -> None:
    with pytest.raises(EngineError) as caught:
        parse(sql, b"")
    assert caught.value.code == 497


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (a String) ENGINE = URL('http://127.0.0.1:9/')",
        "CREATE TABLE t (a String) engine `URL`('http://127.0.0.1:9/')",
        "CREATE TABLE t AS SELECT 1 PARALLEL WITH CREATE TABLE u ENGINE Executable('id', TSV)",
        "CREATE DATABASE d ENGINE = Filesystem('/etc')",
        "CREATE DATABASE d ENGINE = MySQL('h:3306', 'd', 'u', 'p')",
        "CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local)",
        "CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE(EXECUTABLE(COMMAND 'id' FORMAT 'TSV'))",
        "CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE /**/ ( HTTP(URL 'http://127.0.0.1:9/'))",
        "CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 't' HOST 'elsewhere'))",
    ],
)
def test_tables_and_dictionaries_with_data_outside_the_server_are_rejected(sql: str) -> None:
    with pytest.raises(EngineError) as caught:
        parse(sql, b"")
    assert caught.value.code == 497


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (engine String, disk Int8) ENGINE = ReplacingMergeTree(disk) ORDER BY a",
        "CREATE MATERIALIZED VIEW v ENGINE = Null AS SELECT engine FROM system.tables",
        "SELECT name, engine FROM system.databases WHERE engine = 'URL' ORDER BY engine",
        "SELECT source, host FROM weir.events WHERE source IN ('a') GROUP BY source, host",
        "CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 't' DB 'weir'))",
    ],
)
def test_tables_and_dictionaries_with_local_data_are_allowed(sql: str) -> None:
    assert parse(sql, b"") == Statement(sql, None)


@pytest.mark.parametrize(
    ("sql", "parameters", "refused"),
    [
        ("SELECT arrayMap(file, ['x'])", {}, True),
        ("SELECT * APPLY file FROM t", {}, True),
        ("SELECT query FROM system.processes", {}, True),
        ("SELECT query FROM {d:Identifier}.processes", {"d": "system"}, True),
        ("SELECT {f:Identifier}", {"f": "FILE"}, True),
        ("SELECT 'file', `a file`", {}, False),
        ("SELECT properties.file, e.processes FROM weir.events AS e", {}, False),
        ("SELECT 1 WHERE event = {e:String}", {"e": "file"}, False),
    ],
)
def test_names_that_grants_do_not_protect_are_rejected_for_readers(
    sql: str, parameters: dict[str, str], refused: bool
) -> None:
    with pytest.raises(EngineError) if refused else nullcontext():
        refuse_beyond_readers(sql, "", parameters)


def test_inserts_whose_rows_the_engine_would_lose_or_change_are_rejected() -> None:
    for query, body, code in (
        ("INSERT INTO t SELECT a FROM input('a Int8') FORMAT CSV", b"1\n", 344),
        ("INSERT INTO t SELECT a FROM Input /* */ ('a Int8') FORMAT CSV", b"1\n", 344),
        ("INSERT INTO t (from, b) FORMAT RowBinary", b"\x01\xff", 62),
    ):
        with pytest.raises(EngineError) as caught:
            parse(query, body)
        assert caught.value.code == code


def test_too_long_sql_is_rejected_and_hostile_sql_is_parsed_without_failure() -> None:
    with pytest.raises(EngineError) as caught:
        parse("SELECT " + "1 " * 600_000, b"")
    assert caught.value.code == 229
    for hostile in ("/*" * 100_000, "''" * 100_000 + "'", "$a" * 100_000, "(" * 100_000):
        assert parse("SELECT " + hostile, b"") is not None
