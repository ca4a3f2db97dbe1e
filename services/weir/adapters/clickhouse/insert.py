"""Write to ClickHouse (clickhouse-connect): schema statements, and inserts as Avro object containers."""

import json
import re
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import zstandard
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from weir.adapters import avro
from weir.adapters.clickhouse.probe import Probe
from weir.adapters.clickhouse.query import ClickHouse, client_of, one_line
from weir.runtime.sink_ports import Examination, Insert, RowsRefusedError, WarehouseAwayError
from weir.settings.shared import ClickHouseSettings

# Error codes caused by the rows themselves: text that is not JSON, bytes that do not match the schema,
# values that a column cannot hold. Every other error has another cause and is temporary.
REFUSED_CODES = frozenset(
    {
        *(6, 26, 27, 33, 34, 36, 38, 41, 43, 53, 69, 70, 72, 117, 128, 130, 131, 190, 306, 321),
        *(349, 376, 407, 441, 467, 622, 675, 676, 1003),
    }
)
# C++ exceptions from outside ClickHouse's own code; those of the Avro library are caused by the bytes.
FOREIGN_EXCEPTIONS = {1001, 1002}
# The whole server lacks a resource (concurrent queries, disk space), whatever the rows need. For memory, error
# 241 means this only if its text names the server's total.
SERVER_CODES = frozenset({202, 243})
MEMORY_LIMIT_EXCEEDED = 241
WHOLE_SERVER = "(total)"
AVRO = re.compile(r"avro", re.IGNORECASE)

# One insert is one block, so that its token covers all of it, and it is durable when ClickHouse responds.
ONE_BLOCK = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "max_insert_threads": 1,
    "max_insert_block_size": 4_194_304,
    "min_insert_block_size_rows": 4_194_304,
    "min_insert_block_size_bytes": 1 << 30,
    "input_format_parallel_parsing": 0,
    "input_format_avro_allow_missing_fields": 1,  # an earlier schema lacks fields appended since
    "materialized_views_ignore_errors": 0,
    # text stays exactly as it was sent: type inference would turn "2024-02-30" into the first of March
    "input_format_try_infer_dates": 0,
    "input_format_try_infer_datetimes": 0,
    # a repeated name is legal JSON: keep the first value rather than losing the event
    "type_json_skip_duplicated_paths": 1,
    # so that {"a": {"b": 1}, "a.b": 2} has two paths: a.b and a%2Eb
    "json_type_escape_dots_in_keys": 1,
}
SYNC = b"weir avro blocks"
# Time for ClickHouse to respond after an insert has reached its time limit.
ANSWER_SECONDS = 10.0
# Records in one Avro block. These blocks bound the memory of a request; the insert is still one block.
BLOCK_RECORDS = 512


def container(schema: avro.Schema, values: Sequence[bytes]) -> Iterator[bytes]:
    """Yield an Avro object container of single-object-encoded values, without decoding them.

    The first field of the container's schema is the values' own header, for which no table has a column.
    So the values are concatenated unchanged, without cutting off a byte.
    https://avro.apache.org/docs/1.12.0/specification/#object-container-files
    """
    definition = _definition(schema.header)
    meta = ((b"avro.schema", definition), (b"avro.codec", b"null"))
    fields = b"".join(avro.long(len(k)) + k + avro.long(len(v)) + v for k, v in meta)
    yield b"Obj\x01" + avro.long(len(meta)) + fields + b"\0" + SYNC
    for start in range(0, len(values), BLOCK_RECORDS):
        part = values[start : start + BLOCK_RECORDS]
        datums = b"".join(part)
        yield b"".join((avro.long(len(part)), avro.long(len(datums)), datums, SYNC))


@cache
def _definition(header: bytes) -> bytes:
    definition = avro.schemas_by_header()[header].definition
    first = {
        "name": "single_object_header",
        "type": {"type": "fixed", "name": "SingleObjectHeader", "size": avro.HEADER_BYTES},
    }
    return json.dumps({**definition, "fields": [first, *definition["fields"]]}).encode()


class ClickHouseRows:
    """`weir.runtime.sink_ports.Warehouse` on ClickHouse: thread-safe, each insert is one request."""

    def __init__(
        self,
        settings: ClickHouseSettings,
        timeout_seconds: float,
        threads: int,
        compress: bool,
        memory_bytes: int = 0,
    ) -> None:
        """`timeout_seconds`: ClickHouse's time limit of an insert. `memory_bytes`: its memory limit; 0: none."""
        self._settings = settings
        self._limits = {"max_execution_time": timeout_seconds, "max_memory_usage": memory_bytes}
        self._timeout = timeout_seconds
        self._threads = threads
        self._compress = compress
        self._lock = threading.Lock()
        self._connected: Any = None
        self._probe = Probe(self._insert, settings)

    def insert(self, insert: Insert) -> None:
        """See the port."""
        self._insert(insert)
        self._probe.went_in(insert)

    def examine(self, insert: Insert) -> Examination:
        """See the port."""
        return self._probe.examine(insert)

    def _insert(self, insert: Insert) -> None:
        try:
            client = self._client()
        except ClickHouseError as fault:
            raise WarehouseAwayError(one_line(str(fault))[:1_000], sent=False) from fault
        schema = avro.schemas_by_header()[insert.header]
        body = container(schema, insert.values)
        if self._compress:
            body = _packed(body)
        try:
            client.raw_insert(
                f"`{self._settings.clickhouse_database}`.{insert.table}",
                insert_block=body,
                settings={**ONE_BLOCK, **self._limits, "insert_deduplication_token": insert.token},
                fmt="Avro",
                compression="zstd" if self._compress else None,
            )
        except ClickHouseError as fault:
            raise classified(fault) from fault

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()

    def _client(self) -> Any:
        # created at the first insert, because ClickHouse may start later than the sink
        with self._lock:
            if self._connected is None:
                self._connected = client_of(
                    self._settings, self._timeout + ANSWER_SECONDS, self._threads
                )
            return self._connected


def _packed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()


def classified(fault: ClickHouseError) -> Exception:
    """Return `RowsRefusedError` if ClickHouse clearly blames the rows, otherwise `WarehouseAwayError`."""
    code, text = getattr(fault, "code", None), str(fault)
    reason = one_line(text)[:1_000]
    if code in REFUSED_CODES or (code in FOREIGN_EXCEPTIONS and AVRO.search(text)):
        return RowsRefusedError(f"code {code}: {reason}")
    if not code:
        return WarehouseAwayError(reason, sent=not _never_connected(fault))
    of_server = code in SERVER_CODES or (code == MEMORY_LIMIT_EXCEEDED and WHOLE_SERVER in text)
    return WarehouseAwayError(
        f"code {code}: {reason}", str(code), answered=True, of_server=of_server
    )


def _never_connected(fault: ClickHouseError) -> bool:
    """Check whether every attempt of a request failed to connect."""
    cause = fault.__cause__
    return isinstance(cause, MaxRetryError) and isinstance(
        cause.reason, NewConnectionError | ConnectTimeoutError
    )


class ClickHouseSchema:
    """`weir.sink.migrations.Database` on ClickHouse. `ClickHouseUnreachableError` if it does not answer."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._clickhouse = ClickHouse(settings)

    def records(self, sql: str) -> list[dict[str, Any]]:
        return self._clickhouse.records(sql)

    def execute(self, sql: str) -> None:
        for _ in self._clickhouse.stream(sql, None):
            pass
