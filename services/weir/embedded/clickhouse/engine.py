"""ClickHouse's engine in this process: one folder, one owner, a new session for every request.

A session is a separate engine connection, opened (0.1 ms) and closed for each request, so no
setting, current database or failed insert can affect the next request.
"""

import os
import re
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from chdb.state.sqlitelike import Connection

from weir.embedded.clickhouse.engine_config import READER_ROLE, write_config
from weir.embedded.clickhouse.errors import (
    NOT_ENOUGH_SPACE,
    SYNTAX_ERROR,
    UNKNOWN_SETTING,
    from_engine,
    refusal,
)
from weir.embedded.clickhouse.statements import InsertStatement
from weir.runtime.folder_lock import FolderLock
from weir.settings.embedded_clickhouse import WarehouseSettings

READ, WRITE = "read", "write"
_DEFAULT = re.compile(rb"\bDEFAULT\b", re.IGNORECASE)
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass(frozen=True)
class EngineSession:
    """The session of one request. `tag` is unique and identifies its running statement."""

    tag: str
    database: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    readonly: bool = False  # for this request
    reader: bool = False  # the user is the reader: reads Weir's database, within our limits


@dataclass(frozen=True)
class QueryOutcome:
    """A whole result or one piece of it; for an insert only the counts."""

    content: bytes = b""
    read_rows: int = 0
    read_bytes: int = 0
    result_rows: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    seconds: float = 0.0


def quote_text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


class Engine:
    """The only owner of its folder. Every method can be called from any thread, and blocks that thread."""

    def __init__(self, folder: Path, settings: WarehouseSettings, database: str = "weir") -> None:
        """Open the folder, or raise `FolderInUseError` at once if another process has it.

        `database`: the one that readers may read.
        """
        self._path = str(folder.resolve())
        if "?" in self._path:
            raise ValueError(f"{self._path}: the path of the data must not contain '?'")
        self._settings = settings
        self._owner = FolderLock(folder, "owner.lock")
        config = write_config(folder, settings, database)
        try:
            # The engine lives as long as its first session: this one stays open.
            self._anchor: Any = Connection(f"{self._path}?config-file={config}")
        except BaseException:
            self._owner.release()
            raise
        try:
            self._make_default_ordinary(folder)
            self.timezone = self._value("SELECT timezone()")
        except BaseException:
            self.close()
            raise

    def _make_default_ordinary(self, folder: Path) -> None:
        """Make `default` an ordinary database, as on a server.

        The embedded engine puts an overlay on it, in which an unknown table name is a file name.
        """
        if self._value("SELECT engine FROM system.databases WHERE name = 'default'") != "Overlay":
            return
        self._value("DETACH DATABASE default")
        metadata = folder / "metadata"
        if (metadata / "default").exists():  # exists once the database has had a table
            self._value("ATTACH DATABASE default")
            return
        # It never had a table: the engine has forgotten its id and would not attach it.
        (metadata / "default.sql").unlink(missing_ok=True)
        self._value("CREATE DATABASE default ENGINE Atomic")

    def _value(self, sql: str) -> str:
        return _run(self._anchor, sql, "TabSeparated", {}).content.decode().strip()

    def close(self) -> None:
        """Stop the engine and release the folder. Acknowledged writes are durable even without this call."""
        self._anchor.close()
        self._owner.release()

    def classify(self, sql: str) -> str:
        """Return READ or WRITE. Raise code 62 for several statements in one request, as ClickHouse does."""
        with closing(Connection(self._path)) as connection:
            report = connection._conn.classify_query(sql, "")
        if int(report["statement_count"]) > 1:
            raise refusal(SYNTAX_ERROR, "Multi-statements are not allowed")
        return READ if report["query_class"].name == "READ_ONLY" else WRITE

    def as_understood(self, sql: str) -> str:
        """Return a statement as the engine itself formats it: no comments, no unusual quotes, plain names."""
        with closing(Connection(self._path)) as connection:
            # a literal, because a parameter's text would be unescaped once more
            written = f"SELECT formatQuerySingleLine({quote_text(sql)})"
            return _run(connection, written, "TSVRaw", {}).content.decode()

    def insert(self, session: EngineSession, insert: InsertStatement) -> QueryOutcome:
        """Insert all rows, durable on return, or raise `EngineError`."""
        with self._open(session) as connection, self._readable(insert.payload) as path:
            # Passed along with the statement, parameters would keep it from reading files.
            if session.parameters:
                _set(connection, {f"param_{k}": v for k, v in session.parameters.items()})
            if insert.format == "Values" and _DEFAULT.search(insert.payload):
                return self._insert_values(connection, insert)
            # `send_insert` would take rows as they are, but hide every error after parsing:
            # constraints, views, too many parts. An insert from a file reports all errors.
            rows = f"FROM INFILE {quote_text(path)} {insert.settings} FORMAT {insert.format}"
            return _run(connection, f"{insert.head} {rows}", "TabSeparated", {})

    def _insert_values(self, connection: Any, insert: InsertStatement) -> QueryOutcome:
        """Insert rows as SQL, because `DEFAULT` for a value is understood only there, not in a file."""
        head = f"{insert.head} {insert.settings} VALUES ".encode()
        sql = head + insert.payload
        if int(connection._conn.classify_query(sql, "")["statement_count"]) != 1:
            raise refusal(SYNTAX_ERROR, "Multi-statements are not allowed")
        return _run(connection, sql, "TabSeparated", {})

    @contextmanager
    def _readable(self, payload: memoryview) -> Iterator[str]:
        """Yield the path of an unnamed file with the payload, which is never left behind on disk."""
        try:
            with _nameless(self._path) as file:
                file.write(payload)
                file.seek(0)
                yield f"/dev/fd/{file.fileno()}"
        except OSError as fault:
            raise refusal(NOT_ENOUGH_SPACE, f"No room for the rows of an insert: {fault}") from None

    def run(
        self, session: EngineSession, sql: str, form: str, limits: Mapping[str, str] | None = None
    ) -> QueryOutcome:
        """Run a statement to its end and return its whole result, held in memory."""
        with self._open(session, limits) as connection:
            return _run(connection, sql, form, session.parameters)

    def stream(
        self, session: EngineSession, sql: str, form: str, limits: Mapping[str, str]
    ) -> Generator[QueryOutcome]:
        """Yield a read's result piece by piece, in constant memory; closing the iterator cancels the read."""
        with self._open(session, limits) as connection:
            try:
                result = connection.send_query(sql, form, params=dict(session.parameters))
            except RuntimeError as fault:
                if "Streaming query is not supported" not in str(fault):  # SHOW, DESCRIBE, ...
                    raise from_engine(fault) from None
                result = None
            if result is None:
                yield _run(connection, sql, form, session.parameters)
                return
            try:
                while (piece := result.fetch()) is not None:
                    rows = int(piece.rows_read())
                    yield QueryOutcome(
                        content=piece.bytes(),
                        read_rows=rows,
                        read_bytes=int(piece.bytes_read()),
                        result_rows=rows,
                    )
            except RuntimeError as fault:
                raise from_engine(fault) from None
            finally:
                result.cancel()

    def kill(self, tag: str) -> None:
        """Ask a running statement to stop; it ends with code 394 at its next block."""
        with self._open(EngineSession(tag="kill")) as connection:
            condition = f"Settings['log_comment'] = {quote_text(tag)}"
            _run(connection, f"KILL QUERY WHERE {condition} ASYNC", "TabSeparated", {})

    def read_limits(self, session: EngineSession) -> dict[str, str]:
        """Return the limits of a read. A request may set its own, but a reader's request may not."""
        limits = {
            "max_execution_time": f"{self._settings.warehouse_max_execution:g}",
            "max_memory_usage": str(self._settings.warehouse_max_query_memory),
        }
        if session.reader:
            return limits
        return {name: value for name, value in limits.items() if name not in session.settings}

    def result_limits(self) -> dict[str, str]:
        """Return the limits of a result that must be held whole."""
        size = self._settings.warehouse_max_result
        return {"max_result_bytes": str(size), "result_overflow_mode": "throw"}

    @contextmanager
    def _open(
        self, session: EngineSession, limits: Mapping[str, str] | None = None
    ) -> Iterator[Any]:
        try:
            connection: Any = Connection(self._path)
        except RuntimeError as fault:
            raise from_engine(fault) from None
        try:
            if session.database:
                _run(connection, f"USE {quote_name(session.database)}", "TabSeparated", {})
            if session.reader:
                self._restrict(connection, session, limits or {})
            else:
                settings = {**(limits or {}), **session.settings, "log_comment": session.tag}
                if session.readonly:
                    settings["readonly"] = "2"
                _set(connection, settings)
            yield connection
        finally:
            connection.close()

    def _restrict(self, connection: Any, session: EngineSession, limits: Mapping[str, str]) -> None:
        """Restrict a reader's session as a server does: our limits first, then read-only, which refuses theirs."""
        _set(connection, {**limits, "log_comment": session.tag})
        _run(connection, f"SET ROLE {READER_ROLE}", "TabSeparated", {})
        _set(connection, {"readonly": "1"})
        if session.settings:
            _set(connection, session.settings)


def _nameless(folder: str) -> IO[bytes]:
    if hasattr(os, "memfd_create"):  # in memory: an insert waits only for its table's disk
        return open(os.memfd_create("rows"), "w+b")
    return tempfile.TemporaryFile(dir=folder)


def _set(connection: Any, settings: Mapping[str, str]) -> None:
    for name in settings:
        if not _SETTING_NAME.fullmatch(name):
            raise refusal(UNKNOWN_SETTING, f"Unknown setting {name!r}")
    pairs = ", ".join(f"{name} = {quote_text(value)}" for name, value in settings.items())
    _run(connection, f"SET {pairs}", "TabSeparated", {})


def _run(
    connection: Any, sql: str | bytes, form: str, parameters: Mapping[str, str]
) -> QueryOutcome:
    started = time.perf_counter()
    try:
        result = connection.query(sql, form, params=dict(parameters))
    except RuntimeError as fault:
        raise from_engine(fault) from None
    return QueryOutcome(
        content=result.bytes(),
        read_rows=int(result.storage_rows_read()),
        read_bytes=int(result.storage_bytes_read()),
        result_rows=int(result.rows_read()),
        written_rows=int(result.rows_written()),
        written_bytes=int(result.bytes_written()),
        seconds=time.perf_counter() - started,
    )
