"""The embedded ClickHouse serves any client of ClickHouse's HTTP interface."""

import gzip
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import brotli
import clickhouse_connect
import fastavro
import lz4.frame
import pytest
import zstandard

from tests.support.running_warehouse import (
    RunningWarehouse,
    free_port,
    start_warehouse,
    warehouse_environ,
)

ROOT = Path(__file__).parents[3]
SLOW = "SELECT sum(sipHash64(number)) FROM numbers(100000000000)"


class Reply:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.code = headers.get("X-ClickHouse-Exception-Code")


def ask(
    url: str,
    body: bytes | str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    arguments: Mapping[str, str] | None = None,
    **more: str,
) -> Reply:
    """One plain HTTP request, as curl would send it."""
    content = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(
        f"{url}/?{urllib.parse.urlencode({**(arguments or {}), **more})}",
        content,
        dict(headers or {}),
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return Reply(response.status, response.headers, response.read())
    except urllib.error.HTTPError as fault:
        with fault:
            return Reply(fault.code, fault.headers, fault.read())


def get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=60) as response:
        content: bytes = response.read()
        return content


def get_with(address: str, headers: Mapping[str, str]) -> None:
    with urllib.request.urlopen(urllib.request.Request(address, headers=dict(headers)), timeout=60):
        pass


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWarehouse]:
    running = start_warehouse(tmp_path_factory.mktemp("warehouse"))
    yield running
    assert running.stop() == 0


@pytest.fixture
def url(warehouse: RunningWarehouse) -> str:
    return warehouse.url


@pytest.fixture
def database(warehouse: RunningWarehouse) -> Iterator[str]:
    name = f"t{uuid.uuid4().hex}"
    assert ask(warehouse.url, f"CREATE DATABASE {name}").status == 200
    yield name
    assert ask(warehouse.url, f"DROP DATABASE {name} SYNC").status == 200


@pytest.fixture
def client(warehouse: RunningWarehouse, database: str) -> Iterator[Any]:
    client = clickhouse_connect.get_client(host="127.0.0.1", port=warehouse.port, database=database)
    yield client
    client.close()


# --- clickhouse-connect ---------------------------------------------------------------------


def test_client_connects_and_runs_commands_and_queries(client: Any) -> None:
    assert client.command("SELECT 1") == 1
    assert client.ping()
    assert client.server_version.startswith("26.")
    result = client.query("SELECT number, toString(number) AS text FROM numbers(3)")
    assert result.column_names == ("number", "text")
    assert result.result_rows == [(0, "0"), (1, "1"), (2, "2")]
    assert client.query("SELECT 1 AS a WHERE 0").result_rows == []
    assert client.query("SELECT 1 AS a LIMIT 0").column_names == ("a",)


@pytest.mark.parametrize("compress", [True, False, "lz4", "zstd", "gzip", "br"])
def test_client_inserts_and_reads_with_every_compression(
    warehouse: RunningWarehouse, database: str, compress: bool | str
) -> None:
    client: Any = clickhouse_connect.get_client(
        host="127.0.0.1", port=warehouse.port, database=database, compress=compress
    )
    client.command(
        "CREATE TABLE t (a UInt64, s LowCardinality(String), n Nullable(Float64), j JSON)"
        " ENGINE = MergeTree ORDER BY a"
    )
    rows = [
        [i, f"s{i % 5}", None if i % 2 else i / 2, {"p": i, "q": {"r": [i]}}] for i in range(9000)
    ]
    summary = client.insert("t", rows, column_names=["a", "s", "n", "j"]).summary
    assert summary["written_rows"] == "9000"
    read = client.query("SELECT a, s, n, j FROM t ORDER BY a").result_rows
    assert [list(row) for row in read] == rows
    assert client.query("SELECT sum(j.p::UInt64) FROM t").result_rows == [(sum(range(9000)),)]
    client.close()


@pytest.mark.parametrize("as_form", [False, True])
def test_client_binds_parameters(warehouse: RunningWarehouse, database: str, as_form: bool) -> None:
    client: Any = clickhouse_connect.get_client(
        host="127.0.0.1", port=warehouse.port, database=database, form_encode_query_params=as_form
    )
    awkward = "it's a \\ tab \t, a line\nand {x:String} -- é"
    result = client.query(
        "SELECT {number:Int64} AS n, {text:String} AS t, {list:Array(String)} AS l",
        parameters={"number": -5, "text": awkward, "list": ["a", awkward]},
    )
    assert result.result_rows == [(-5, awkward, ["a", awkward])]
    client.close()


def test_client_streams_rows_and_sees_a_late_error(client: Any) -> None:
    with client.query_row_block_stream("SELECT number FROM numbers(3000000)") as stream:
        assert sum(len(block) for block in stream) == 3_000_000
    late = "SELECT throwIf(number = 9000000), number FROM numbers(10000000)"
    with (
        client.query_row_block_stream(late) as stream,
        pytest.raises(Exception, match="Code: 395"),  # clickhouse-connect's StreamFailureError
    ):
        for _ in stream:
            pass


def test_client_receives_the_clickhouse_error_code_of_a_failed_query(client: Any) -> None:
    for sql, code in (("SELECT nope", 47), ("SELECT * FROM nope", 60), ("SELEC 1", 62)):
        with pytest.raises(clickhouse_connect.driver.exceptions.DatabaseError) as caught:
            client.query(sql)
        assert caught.value.code == code


# --- the HTTP interface ---------------------------------------------------------------------


def test_get_requests_return_rows_with_clickhouse_headers(url: str) -> None:
    reply = ask(url, query="SELECT 1 AS a FORMAT JSONEachRow", query_id="mine")
    assert (reply.status, reply.body) == (200, b'{"a":1}\n')
    assert reply.headers["X-ClickHouse-Query-Id"] == "mine"
    assert reply.headers["X-ClickHouse-Timezone"]
    assert reply.headers["X-ClickHouse-Format"] == "JSONEachRow"
    assert json.loads(reply.headers["X-ClickHouse-Summary"])["result_rows"] == "1"
    assert get(f"{url}/ping") == b"Ok.\n"
    assert ask(url).body == b"Ok.\n"


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE {} (a Int8) ENGINE = Null",
        "INSERT INTO {} VALUES (1)",
        "INSERT INTO {} SELECT 1",
        "DROP DATABASE {}",
        "SET max_threads = 1",
        "SYSTEM DROP MARK CACHE",
    ],
)
def test_get_requests_that_write_are_refused(url: str, database: str, sql: str) -> None:
    reply = ask(url, query=sql.format(database))
    assert (reply.status, reply.code) == (403, "164")


def test_output_format_is_taken_from_sql_then_parameter_then_header(url: str) -> None:
    header = {"X-ClickHouse-Format": "CSV"}
    assert ask(url, "SELECT 'a'").body == b"a\n"
    assert ask(url, "SELECT 'a'", headers=header).body == b'"a"\n'
    assert ask(url, "SELECT 'a' AS x", headers=header, default_format="JSONEachRow").body == (
        b'{"x":"a"}\n'
    )
    assert ask(url, "SELECT 'a' FORMAT TSVRaw", headers=header).body == b"a\n"


@pytest.mark.parametrize("form", ["CSVWithNames", "TSVWithNames", "TabSeparatedWithNames"])
def test_column_names_are_sent_once_when_a_result_has_many_chunks(url: str, form: str) -> None:
    lines = ask(url, f"SELECT number AS n FROM numbers(200000) FORMAT {form}").body.splitlines()
    assert lines[0].strip(b'"') == b"n"
    assert [int(line) for line in lines[1:]] == list(range(200_000))
    assert ask(url, f"SELECT 1 AS n WHERE 0 FORMAT {form}").body.strip(b'"\n') == b"n"


def test_a_large_json_result_is_one_valid_document(url: str) -> None:
    document = json.loads(ask(url, "SELECT number FROM numbers(200000) FORMAT JSON").body)
    assert document["rows"] == len(document["data"]) == 200_000


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "lz4", "br", "identity"])
def test_each_content_encoding_works_for_requests_and_responses(
    url: str, database: str, encoding: str
) -> None:
    pack: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "zstd": zstandard.compress,
        "lz4": lz4.frame.compress,
        "br": brotli.compress,
        "identity": bytes,
    }
    unpack: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.decompress,
        "zstd": lambda packed: zstandard.ZstdDecompressor().decompressobj().decompress(packed),
        "lz4": lz4.frame.decompress,
        "br": brotli.decompress,
        "identity": bytes,
    }
    assert ask(url, "CREATE TABLE t (n UInt64) ENGINE = Memory", database=database).status == 200
    rows = b"".join(b"%d\n" % n for n in range(300_000))
    inserted = ask(
        url,
        pack[encoding](rows),
        headers={"Content-Encoding": encoding},
        query="INSERT INTO t FORMAT CSV",
        database=database,
    )
    assert inserted.status == 200
    reply = ask(
        url,
        "SELECT n FROM t ORDER BY n FORMAT CSV",
        headers={"Accept-Encoding": encoding},
        database=database,
        enable_http_compression="1",
        wait_end_of_query="1",
    )
    assert reply.headers.get("Content-Encoding", "identity") == encoding
    assert unpack[encoding](reply.body) == rows


def test_broken_and_unknown_encodings_are_refused(url: str) -> None:
    for encoding in ("gzip", "zstd", "lz4", "br", "rot13"):
        reply = ask(url, b"SELECT 1", headers={"Content-Encoding": encoding})
        assert (reply.status, reply.code) == (400, "408")
    cut = gzip.compress(b"SELECT 1")[:-9]
    assert ask(url, cut, headers={"Content-Encoding": "gzip"}).code == "408"


def test_insert_rows_are_accepted_in_the_body_or_in_the_sql(url: str, database: str) -> None:
    def insert(body: str, **arguments: str) -> None:
        reply = ask(url, body, arguments=arguments, database=database)
        assert reply.status == 200, reply.body

    insert("CREATE TABLE t (a Int64, b String DEFAULT 'd') ENGINE = Memory")
    insert("1,x\n", query="INSERT INTO t FORMAT CSV")
    insert('{"a": 2}\n{"a": 3, "b": "y"}', query="INSERT INTO t (a, b) FORMAT JSONEachRow")
    insert("INSERT INTO t FORMAT TSV\n4\tz\n")
    insert("INSERT INTO t (a) VALUES (5), (6)")
    insert("(7, 'FORMAT CSV')", query="INSERT INTO t VALUES")
    insert("INSERT INTO t SELECT 8, 'VALUES'")
    insert("INSERT INTO {t:Identifier} (a) FORMAT CSV\n9\n", param_t="t")
    insert("", query="INSERT INTO t (a) VALUES (10)")
    read = ask(url, "SELECT a, b FROM t ORDER BY a FORMAT CSV", database=database).body.decode()
    assert read.splitlines() == [
        *('1,"x"', '2,"d"', '3,"y"', '4,"z"', '5,"d"', '6,"d"', '7,"FORMAT CSV"', '8,"VALUES"'),
        *('9,"d"', '10,"d"'),
    ]


def test_an_avro_insert_of_tens_of_megabytes_stores_every_row(url: str, database: str) -> None:
    fields = [
        {"name": "id", "type": {"type": "fixed", "name": "u", "size": 16}},
        {"name": "at", "type": "long"},
        {"name": "value", "type": ["null", "double"]},
        {"name": "properties", "type": "string"},
    ]
    schema = fastavro.parse_schema({"type": "record", "name": "event", "fields": fields})
    properties = json.dumps({"text": "x" * 1000, "nested": {"n": 7}})
    container = io.BytesIO()
    rows = [
        {"id": uuid.UUID(int=n).bytes, "at": n, "value": None, "properties": properties}
        for n in range(30_000)
    ]
    fastavro.writer(container, schema, rows)
    assert len(container.getvalue()) > 30_000_000
    for sql in (
        "CREATE TABLE landing (id FixedString(16), at Int64, value Nullable(Float64),"
        " properties String, extra String) ENGINE = Null",
        "CREATE TABLE t (id UUID, properties JSON) ENGINE = MergeTree ORDER BY id",
        "CREATE MATERIALIZED VIEW mv TO t AS SELECT toUUID(UUIDNumToString(id)) AS id,"
        " properties::JSON AS properties FROM landing",
    ):
        assert ask(url, sql, database=database).status == 200
    reply = ask(
        url,
        container.getvalue(),
        query="INSERT INTO landing FORMAT Avro",
        database=database,
        input_format_avro_allow_missing_fields="1",
    )
    assert reply.status == 200, reply.body
    read = ask(
        url,
        "SELECT count(), uniqExact(id), sum(properties.nested.n::Int64) FROM t",
        database=database,
    )
    assert read.body == b"30000\t30000\t210000\n"


def test_settings_apply_to_one_request_and_not_to_the_next_on_its_connection(
    warehouse: RunningWarehouse,
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", warehouse.port)
    sql = "SELECT getSetting('max_block_size'), currentDatabase()"

    def read(path: str) -> bytes:
        connection.request("POST", path, sql)
        return connection.getresponse().read()

    before = read("/")
    assert read("/?max_block_size=77&database=system") == b"77\tsystem\n"
    assert read("/") == before
    connection.request("POST", "/", "SET max_block_size = 78")
    assert connection.getresponse().read() == b""
    assert read("/") == before
    connection.close()


def test_refused_requests_carry_clickhouse_code_and_http_status(url: str, database: str) -> None:
    refused: list[tuple[str, dict[str, str], int, str]] = [
        ("SELECT 1", {"no_such_setting": "1"}, 404, "115"),
        ("SELECT 1", {"max_threads'; DROP": "1"}, 404, "115"),
        ("SELECT 1", {"database": "no_such"}, 404, "81"),
        ("SELECT 1; SELECT 2", {}, 400, "62"),
        ("SELECT * FROM file('/etc/hostname', 'LineAsString')", {}, 403, "497"),
        ("SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a Int8')", {}, 403, "497"),
        (f"SELECT 1 INTO OUTFILE '/tmp/{database}'", {}, 400, "358"),
        (f"INSERT INTO t FROM INFILE '/tmp/{database}' FORMAT CSV", {}, 400, "358"),
        ("SELECT {x:UInt8}", {"param_x": "many"}, 400, "457"),
        ("INSERT INTO t FORMAT CSV\n1", {"database": database}, 404, "60"),
        ("SELECT 1", {"decompress": "1"}, 501, "344"),
        (SLOW, {"max_execution_time": "0.2"}, 408, "159"),
        ("SELECT '" + "x" * 1_100_000 + "'", {}, 413, "229"),
    ]
    for sql, arguments, status, code in refused:
        reply = ask(url, sql, arguments=arguments)
        assert (reply.status, reply.code) == (status, code), sql[:80]
        assert reply.body.startswith(f"Code: {code}. DB::Exception".encode())


def test_a_failed_insert_stores_no_rows_and_blocks_no_later_insert(url: str, database: str) -> None:
    assert ask(url, "CREATE TABLE t (a Int64) ENGINE = Memory", database=database).status == 200
    for _ in range(5):  # more often than there are insert threads
        bad = ask(url, "1\nnot a number\n", query="INSERT INTO t FORMAT CSV", database=database)
        assert (bad.status, bad.code) == (400, "117")
    good = ask(url, "1\n", query="INSERT INTO t FORMAT CSV", database=database)
    assert good.status == 200
    assert ask(url, "SELECT count() FROM t", database=database).body == b"1\n"


@pytest.mark.parametrize(
    ("table", "insert", "code"),
    [
        ("ENGINE = Memory", "INSERT INTO t FORMAT JSONEachRow", "117"),
        ("ENGINE = Memory", "INSERT INTO TABLE `t` (`s`) FORMAT JSONEachRow", "117"),
        ("ENGINE = Memory", "INSERT INTO t SETTINGS async_insert = 0 FORMAT JSONEachRow", "117"),
        ("ENGINE = Null", "INSERT INTO t (s) FORMAT JSONEachRow", "117"),
        ("CONSTRAINT c CHECK a > 2) ENGINE = Memory", "INSERT INTO t FORMAT JSONEachRow", "469"),
        (
            "ENGINE = MergeTree ORDER BY a PARTITION BY a"
            " SETTINGS parts_to_throw_insert = 1, parts_to_delay_insert = 1",
            "INSERT INTO t FORMAT JSONEachRow",
            "252",
        ),
    ],
)
def test_an_insert_that_fails_after_its_rows_are_parsed_is_an_error(
    url: str, database: str, table: str, insert: str, code: str
) -> None:
    text, comma = "[]" if code == "117" else "{}", ", " if table.startswith("CONSTRAINT") else ") "
    for sql in (
        f"CREATE TABLE t (s String, a Int64 DEFAULT length(s){comma}{table}",
        "CREATE TABLE copy (s JSON) ENGINE = Memory",
        "CREATE MATERIALIZED VIEW v TO copy AS SELECT s::JSON AS s FROM t",
        "INSERT INTO t VALUES ('{}', 3)",
    ):
        assert ask(url, sql, database=database).status == 200
    reply = ask(url, json.dumps({"s": text}), query=insert, database=database)
    assert reply.code == code, reply.body
    assert reply.status >= 400
    assert ask(url, "SELECT count() FROM copy", database=database).body == b"1\n"


def test_a_repeated_insert_token_stores_its_rows_once(url: str, database: str) -> None:
    for sql in (
        "CREATE TABLE t (s String) ENGINE = Null",
        "CREATE TABLE copy (s String) ENGINE = MergeTree ORDER BY s"
        " SETTINGS non_replicated_deduplication_window = 100",
        "CREATE MATERIALIZED VIEW v TO copy AS SELECT s FROM t",
    ):
        assert ask(url, sql, database=database).status == 200
    for token in ("one", "one", "two", "one"):
        reply = ask(
            url,
            "a\n" * 50_000,
            query="INSERT INTO t FORMAT CSV",
            database=database,
            insert_deduplication_token=token,
            deduplicate_blocks_in_dependent_materialized_views="1",
        )
        assert reply.status == 200, reply.body
    assert ask(url, "SELECT count() FROM copy", database=database).body == b"100000\n"


def test_an_insert_with_values_accepts_a_single_statement_only(url: str, database: str) -> None:
    create = "CREATE TABLE t (a Int64, b String DEFAULT 'd') ENGINE = Memory"
    assert ask(url, create, database=database).status == 200
    good = ask(url, "INSERT INTO t VALUES (1, default), (1 + 1, 'x;y');\n", database=database)
    assert good.status == 200, good.body
    for more in ("DROP TABLE t", "(3, 'x')"):
        bad = ask(url, f"INSERT INTO t VALUES (3, DEFAULT); {more}", database=database)
        assert (bad.status, bad.code) == (400, "62")
    read = ask(url, "SELECT a, b FROM t ORDER BY a", database=database)
    assert read.body == b"1\td\n2\tx;y\n"


def test_inserts_into_files_and_urls_are_refused(url: str) -> None:
    for function in ("file('/tmp/weir', 'CSV', 'a Int8')", "url('http://127.0.0.1:1/', 'CSV')"):
        reply = ask(url, "1\n", query=f"INSERT INTO FUNCTION {function} FORMAT CSV")
        assert (reply.status, reply.code) == (403, "497")


@pytest.mark.parametrize(
    "header",
    [
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://evil.example", "Content-Type": "text/plain"},  # as a form sends
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Referer": "http://evil.example/"},
        {"Host": "rebound.example"},
        {"Host": "[::1"},
    ],
    ids=str,
)
def test_requests_from_foreign_web_pages_are_refused(
    url: str, database: str, header: dict[str, str]
) -> None:
    table = "CREATE TABLE t (a Int8) ENGINE = Memory"
    for reply in (
        ask(url, "SELECT 1", headers=header),
        ask(url, headers=header, query="SELECT 'loot(1)' FORMAT TSVRaw"),
        ask(url, table, headers=header, database=database),
    ):
        assert (reply.status, reply.code) == (403, "497")
        assert reply.headers["Access-Control-Allow-Origin"] is None
    assert ask(url, "EXISTS TABLE t", database=database).body == b"0\n"
    for path in ("ping", "metrics"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get_with(f"{url}/{path}", header)
        refused.value.close()
        assert refused.value.code == 403


def test_requests_from_own_pages_and_the_address_bar_are_allowed(
    warehouse: RunningWarehouse,
) -> None:
    own = {"Sec-Fetch-Site": "same-origin", "Origin": warehouse.url}
    assert ask(warehouse.url, "SELECT 1", headers=own).status == 200
    assert ask(warehouse.url, query="SELECT 1", headers={"Sec-Fetch-Site": "none"}).status == 200


def test_every_response_forbids_cross_origin_use_and_content_sniffing(url: str) -> None:
    large = "SELECT number FROM numbers(3000000)"  # in pieces
    for reply in (
        ask(url, "SELECT 1"),
        ask(url, large),
        ask(url, "SELECT nonsense"),
        ask(url, "SELECT 1", headers={"Origin": "http://evil.example"}),
        ask(f"{url}/nowhere"),
        ask(f"{url}/metrics"),
    ):
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"


MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


def part(content: bytes, *headers: bytes) -> bytes:
    head = b"\r\n".join((b"Content-Disposition: form-data; name=query", *headers))
    return b"--x\r\n" + head + b"\r\n\r\n" + content + b"\r\n--x--\r\n"


@pytest.mark.parametrize(
    ("body", "headers", "arguments", "status"),
    [
        (b"SELECT 1", {}, {"query_id": "a\r\nX-Injected: 1"}, 400),
        (b"SELECT 1", {}, {"query_id": "\xe9"}, 400),
        (b"SELECT 1", {}, {"query_id": "x" * 2_000}, 400),
        (b"SELECT 1", {}, {"default_format": "TSV\r\nX-Injected: 1"}, 400),
        (b"SELECT 1", {"X-ClickHouse-Format": "\xff"}, {}, 400),
        (b"SELECT 1", {"X-ClickHouse-Database": "\xff"}, {}, 400),
        (b"SELECT 1", {"Authorization": "Basic \xff\xfe"}, {}, 200),  # nobody needs a password
        (b"SELECT 1", {"Content-Encoding": "\xff"}, {}, 400),
        (b"SELECT 1", {"Content-Type": "\xff;;;="}, {}, 200),
        (b"SELECT 1", {"Content-Type": "multipart/form-data"}, {}, 400),
        (b"SELECT 1", {"Content-Type": f"multipart/form-data; boundary={'x' * 100}"}, {}, 400),
        (b"junk", MULTIPART, {}, 400),
        (part(b"SELECT 1"), MULTIPART, {}, 200),
        (part(b"SELECT \xff1"), MULTIPART, {}, 400),
        (part(b"SELECT 1", b"Content-Type: text/plain; charset=nonsense"), MULTIPART, {}, 400),
        (part(b"SELECT 1", b"Content-Transfer-Encoding: zzz"), MULTIPART, {}, 400),
        (part(b"SELECT 1" + bytes(3 << 20)), MULTIPART, {}, 413),
        (b"SELECT 1", {}, {"\r\n": "1"}, 404),
        (gzip.compress(b"") * 40_000, {"Content-Encoding": "gzip"}, {}, 400),
        (zstandard.compress(b"") * 40_000, {"Content-Encoding": "zstd"}, {}, 400),
        (lz4.frame.compress(b"") * 40_000, {"Content-Encoding": "lz4"}, {}, 400),
    ],
)
def test_malformed_requests_get_an_http_answer_and_log_no_traceback(
    warehouse: RunningWarehouse,
    body: bytes,
    headers: dict[str, str],
    arguments: dict[str, str],
    status: int,
) -> None:
    said = warehouse.log.stat().st_size
    reply = ask(warehouse.url, body, headers=headers, arguments=arguments)
    assert reply.status == status, reply.body
    assert reply.headers["X-Injected"] is None
    with warehouse.log.open("rb") as log:
        log.seek(said)
        assert b"Traceback" not in log.read()


def test_metrics_report_requests_by_outcome_and_waiting_inserts(url: str) -> None:
    assert ask(url, "SELECT 1").status == 200
    text = get(f"{url}/metrics").decode()
    assert 'weir_warehouse_requests_total{kind="read",outcome="ok"}' in text
    assert 'weir_warehouse_waiting{lane="insert"}' in text


# --- many at once ---------------------------------------------------------------------------


def running_queries(url: str) -> int:
    sql = "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64%'"
    # The count finds itself too.
    return int(ask(url, sql + " AND query NOT LIKE '%processes%'").body)


def gauge(url: str, lane: str, name: str = "running") -> float:
    text = get(f"{url}/metrics").decode()
    line = f'weir_warehouse_{name}{{lane="{lane}"}} '
    return float(next(x for x in text.splitlines() if x.startswith(line)).removeprefix(line))


def test_stuck_queries_do_not_block_inserts_and_end_when_clients_disconnect(
    url: str, warehouse: RunningWarehouse, database: str
) -> None:
    assert ask(url, "CREATE TABLE t (a Int64) ENGINE = Memory", database=database).status == 200
    sockets = []
    for _ in range(6):  # 4 run, 2 wait
        connection = socket.create_connection(("127.0.0.1", warehouse.port))
        body = SLOW.encode()
        connection.sendall(
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        sockets.append(connection)
    wait_until(lambda: gauge(url, "query") == 4 and gauge(url, "query", "waiting") == 2)
    for n in range(10):
        inserted = ask(url, f"{n}\n", query="INSERT INTO t FORMAT CSV", database=database)
        assert inserted.status == 200
    assert gauge(url, "query") == 4
    for connection in sockets:
        connection.close()
    wait_until(lambda: gauge(url, "query") == 0)
    assert running_queries(url) == 0
    assert ask(url, "SELECT count() FROM t", database=database).body == b"10\n"


def test_concurrent_readers_see_each_insert_whole_or_not_at_all(url: str, database: str) -> None:
    table = "CREATE TABLE t (a Int64, b String) ENGINE = MergeTree ORDER BY a"
    assert ask(url, table, database=database).status == 200
    rows = "".join(f"{n},x{n}\n" for n in range(5000))

    def insert(_: int) -> int:
        return ask(url, rows, query="INSERT INTO t FORMAT CSV", database=database).status

    def read(_: int) -> int:
        return int(ask(url, "SELECT count() FROM t", database=database).body) % 5000

    with ThreadPoolExecutor(12) as pool:
        inserts, reads = pool.map(insert, range(30)), pool.map(read, range(60))
        assert set(inserts) == {200}
        assert set(reads) == {0}  # an insert is seen whole or not at all
    assert ask(url, "SELECT count() FROM t", database=database).body == b"150000\n"


def test_dictionaries_reload_rows_inserted_into_their_tables(url: str, database: str) -> None:
    for sql in (
        "CREATE TABLE merges (a UUID, b String) ENGINE = MergeTree ORDER BY a",
        "CREATE DICTIONARY d (a UUID, b String) PRIMARY KEY a SOURCE(CLICKHOUSE(QUERY"
        f" 'SELECT a, b FROM {database}.merges')) LAYOUT(COMPLEX_KEY_HASHED())"
        " LIFETIME(MIN 1 MAX 2)",
        "INSERT INTO merges VALUES ('00000000-0000-0000-0000-000000000001', 'first')",
    ):
        assert ask(url, sql, database=database).status == 200

    def look_up(key: int) -> bytes:
        sql = f"SELECT dictGet('{database}.d', 'b', tuple(toUUID('{uuid.UUID(int=key)}')))"
        return ask(url, sql).body

    assert look_up(1) == b"first\n"
    sql = f"INSERT INTO merges VALUES ('{uuid.UUID(int=2)}', 'second')"
    assert ask(url, sql, database=database).status == 200
    wait_until(lambda: look_up(2) == b"second\n")


# --- the process ----------------------------------------------------------------------------


def launch(folder: Path, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "weir.embedded.clickhouse"],
        env=warehouse_environ(folder, free_port()) | settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_second_process_on_the_same_folder_is_refused(warehouse: RunningWarehouse) -> None:
    second = launch(warehouse.log.parent, {})
    assert second.returncode == 1
    assert f"in use by process {warehouse.pid}" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    assert ask(warehouse.url, "SELECT 1").body == b"1\n"


def test_listening_on_all_interfaces_requires_a_password(tmp_path: Path) -> None:
    refused = launch(tmp_path, {"WEIR_HOST": "0.0.0.0"})
    assert refused.returncode == 1
    assert "WEIR_CLICKHOUSE_PASSWORD" in refused.stderr


def test_password_and_limits_of_request_result_and_memory_are_enforced(tmp_path: Path) -> None:
    running = start_warehouse(
        tmp_path,
        settings={
            "WEIR_CLICKHOUSE_PASSWORD": "s3cret",
            "WEIR_WAREHOUSE_MAX_REQUEST": "100000",
            "WEIR_WAREHOUSE_MAX_RESULT": "100000",
            "WEIR_WAREHOUSE_MAX_QUERY_MEMORY": "100000000",
        },
    )
    try:
        url = running.url
        for headers in ({}, {"X-ClickHouse-Key": "wrong"}, {"Authorization": "Basic !!"}):
            reply = ask(url, "SELECT 1", headers=headers)
            assert (reply.status, reply.code) == (401, "516")
        key = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "s3cret"}
        assert ask(url, "SELECT 1", headers=key).body == b"1\n"
        assert ask(url, "SELECT 1", user="default", password="s3cret").body == b"1\n"
        client: Any = clickhouse_connect.get_client(
            host="127.0.0.1", port=running.port, username="default", password="s3cret"
        )
        assert client.command("SELECT 1") == 1
        client.close()
        bomb = gzip.compress(b" " * 10_000_000)
        reply = ask(url, bomb, headers=key | {"Content-Encoding": "gzip"})
        assert (reply.status, reply.code) == (413, "307")
        assert ask(url, b" " * 100_001, headers=key).status == 413
        large = "SELECT number FROM numbers(1000000) FORMAT JSON"
        reply = ask(url, large, headers=key)
        assert (reply.status, reply.code) == (413, "396")
        greedy = "SELECT number, count() FROM numbers(100000000) GROUP BY number FORMAT Null"
        assert ask(url, greedy, headers=key).code == "241"
        assert ask(url, "SELECT 1", headers=key).body == b"1\n"
        assert "s3cret" not in running.log.read_text()
    finally:
        assert running.stop() == 0


def test_the_default_database_keeps_tables_and_dependents_across_restarts(tmp_path: Path) -> None:
    dictionary = (
        "CREATE DICTIONARY IF NOT EXISTS other.d (a UInt64, b String) PRIMARY KEY a"
        " SOURCE(CLICKHOUSE(TABLE 't' DB 'default')) LAYOUT(HASHED()) LIFETIME(0)"
    )
    for start in range(1, 4):
        running = start_warehouse(tmp_path)
        try:
            for sql in (
                "CREATE DATABASE IF NOT EXISTS other",
                "CREATE TABLE IF NOT EXISTS t (a UInt64, b String) ENGINE = MergeTree ORDER BY a",
                "CREATE TABLE IF NOT EXISTS other.u (a UInt64) ENGINE = MergeTree ORDER BY a",
                "CREATE MATERIALIZED VIEW IF NOT EXISTS other.mv TO other.u AS SELECT a FROM t",
                dictionary,
                f"INSERT INTO t VALUES ({start}, 'x{start}')",
            ):
                reply = ask(running.url, sql)
                assert reply.status == 200, reply.body
            assert ask(running.url, "SELECT count() FROM t").body == b"%d\n" % start
            assert ask(running.url, "SELECT count() FROM other.u").body == b"%d\n" % start
            assert ask(running.url, "SELECT dictGet('other.d', 'b', 1)").body == b"x1\n"
            unknown = ask(running.url, "SELECT * FROM nope")
            assert (unknown.status, unknown.code) == (404, "60")
        finally:
            if start == 2:
                running.kill()
            else:
                assert running.stop() == 0


def make_landing(url: str) -> None:
    window = "SETTINGS non_replicated_deduplication_window = 1000"
    for sql in (
        "CREATE DATABASE weir",
        "CREATE TABLE weir.landing (a Int64, batch Int64, j String) ENGINE = Null",
        "CREATE TABLE weir.rows (a Int64, batch Int64, j JSON) ENGINE = MergeTree"
        f" ORDER BY (batch, a) {window}",
        "CREATE TABLE weir.sums (batch Int64, n Int64) ENGINE = SummingMergeTree"
        f" ORDER BY batch {window}",
        "CREATE MATERIALIZED VIEW weir.rows_mv TO weir.rows AS"
        " SELECT a, batch, j::JSON AS j FROM weir.landing",
        "CREATE MATERIALIZED VIEW weir.sums_mv TO weir.sums AS"
        " SELECT batch, count() AS n FROM weir.landing GROUP BY batch",
    ):
        assert ask(url, sql).status == 200


def insert_batch(url: str, batch: int, rows: int = 1000) -> Reply:
    body = "".join(f'{{"a":{n},"batch":{batch},"j":"{{\\"p\\":{n}}}"}}\n' for n in range(rows))
    return ask(
        url,
        body,
        query="INSERT INTO weir.landing FORMAT JSONEachRow",
        insert_deduplication_token=f"batch-{batch}",
        deduplicate_blocks_in_dependent_materialized_views="1",
    )


def test_inserts_repeated_after_a_kill_and_restart_count_once(tmp_path: Path) -> None:
    batches = 40
    running = start_warehouse(tmp_path)
    try:
        make_landing(running.url)
        acknowledged: list[int] = []
        begun = threading.Event()

        def insert_all() -> None:
            for batch in range(batches):
                try:
                    if insert_batch(running.url, batch).status == 200:
                        acknowledged.append(batch)
                except (OSError, http.client.HTTPException):
                    return
                if len(acknowledged) == 10:
                    begun.set()

        inserting = threading.Thread(target=insert_all)
        inserting.start()
        assert begun.wait(60)
        running.kill()
        inserting.join(60)
        assert acknowledged

        running = start_warehouse(tmp_path)
        stored = ask(running.url, "SELECT DISTINCT batch FROM weir.rows").body.split()
        assert set(acknowledged) <= {int(batch) for batch in stored}
        for batch in range(batches):  # every one again, as a sink that does not know would
            assert insert_batch(running.url, batch).status == 200
        read = "SELECT count(), uniqExact(batch, a), (SELECT sum(n) FROM weir.sums) FROM weir.rows"
        assert ask(running.url, read).body == b"40000\t40000\t40000\n"
    finally:
        assert running.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_running_inserts_and_ends_running_reads(
    tmp_path: Path, number: int
) -> None:
    running = start_warehouse(tmp_path)
    url = running.url
    try:
        make_landing(url)
        with ThreadPoolExecutor(2) as pool:
            slow_read = pool.submit(ask, url, SLOW)
            wait_until(lambda: gauge(url, "query") == 1)
            insert = pool.submit(insert_batch, url, 1, 200_000)
            wait_until(lambda: gauge(url, "insert") == 1 or insert.done())
            running.process.send_signal(number)
            assert running.process.wait(60) == 0
            assert insert.result().status == 200
            assert slow_read.result().status >= 400
        running = start_warehouse(tmp_path)
        assert ask(running.url, "SELECT count() FROM weir.rows").body == b"200000\n"
    finally:
        assert running.stop() == 0
