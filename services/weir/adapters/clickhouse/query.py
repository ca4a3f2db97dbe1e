"""Query ClickHouse (clickhouse-connect): SQL text in, rows or bytes out."""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from clickhouse_connect.driver.httputil import get_pool_manager

from weir.adapters.errors import RefusedError, UnavailableError
from weir.settings.shared import ClickHouseSettings

# The driver logs what it raises; the code that catches the exception reports it once.
logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())

CHUNK_BYTES = 1 << 16
CONNECT_SECONDS = 5
AUTHENTICATION_FAILED = 516
NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"
# Temporary errors: too many queries, a broken connection, a table that is dropped or read-only for a moment,
# too little memory, too many parts, an unavailable Keeper.
PASSING = frozenset({202, 209, 210, 218, 236, 241, 242, 252, 319, 999})
NO_TABLES = (60, 81)  # UNKNOWN_TABLE, UNKNOWN_DATABASE
# The text that drivers and servers put around the engine's own message.
WRAPPING = re.compile(r"^.*?Code: \d+\. *(?:DB::Exception: )?", re.DOTALL)
TRAILER = re.compile(r"\s*\((?:version|for url|official build)\b.*$", re.DOTALL)


class ClickHouseUnreachableError(UnavailableError):
    """No ClickHouse answers; the text is one sentence that says where and what to start."""


class ClickHouseRefusedError(RefusedError):
    """ClickHouse answered with an error; the text is its reason in one line."""

    def __init__(self, text: str, passing: bool = False) -> None:
        super().__init__(text)
        self.passing = passing


def client_of(settings: ClickHouseSettings, timeout_seconds: float, connections: int = 1) -> Any:
    """Return a client to which the server has answered, with at most `connections` connections. `ClickHouseError`."""
    pool = _pool(connections, settings.clickhouse_ca_file, settings.clickhouse_verify)
    return clickhouse_connect.get_client(
        dsn=settings.url(),
        interface=urlsplit(settings.url()).scheme,  # the driver does not take it from the dsn
        username=settings.clickhouse_user,
        password=settings.clickhouse_password,
        connect_timeout=CONNECT_SECONDS,
        send_receive_timeout=timeout_seconds,
        autogenerate_session_id=False,  # a session would serialize requests
        pool_mgr=pool,
    )


@cache
def _pool(connections: int, ca_file: Path | None, verify: bool) -> Any:
    """Return a pool that all clients of the process with the same trust settings share, to reuse connections."""
    ca_cert = str(ca_file) if ca_file else None
    return get_pool_manager(maxsize=connections, ca_cert=ca_cert, verify=verify)


@dataclass(frozen=True)
class QueryResult:
    """A query result: column names, their ClickHouse types, rows of JSON values."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]

    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class ClickHouse:
    """One client of ClickHouse. The constructor raises `ClickHouseUnreachableError` if the server does not answer."""

    def __init__(self, settings: ClickHouseSettings, timeout_seconds: int = 300) -> None:
        self._url = settings.url()
        try:
            self._client = client_of(settings, timeout_seconds)
        except ClickHouseError as error:
            raise self._classified(error) from None

    def ask(self, sql: str, parameters: Mapping[str, Any] | None = None) -> QueryResult:
        """Return the whole result. For a statement without a result, return a `QueryResult` without columns."""
        text = b"".join(self.stream(sql, "JSONCompact", parameters))
        if not text.strip():
            return QueryResult([], [], [])
        result = msgspec.json.decode(text)
        columns = [column["name"] for column in result["meta"]]
        types = [column["type"] for column in result["meta"]]
        return QueryResult(columns, types, result["data"])

    def records(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows as dicts by column name."""
        return self.ask(sql, parameters).records()

    def stream(
        self, sql: str, form: str | None, parameters: Mapping[str, Any] | None = None
    ) -> Iterator[bytes]:
        """Yield the result as it arrives, in the ClickHouse format `form` unless `sql` names one itself."""
        try:
            source = self._client.raw_stream(
                sql.rstrip().rstrip(";"),
                parameters=dict(parameters) if parameters else None,
                use_database=False,
                # a header, not a FORMAT clause, which an INSERT would apply to its input rows
                transport_settings={"X-ClickHouse-Format": form} if form else None,
            )
            with source:
                while piece := source.read(CHUNK_BYTES):
                    yield piece
        except ClickHouseError as error:
            raise self._classified(error) from None

    def _classified(self, error: ClickHouseError) -> Exception:
        code = getattr(error, "code", None)
        if code is None and NOT_TRUSTED in str(error):
            return ClickHouseRefusedError(
                f"The certificate of {self._url} is not trusted: set WEIR_CLICKHOUSE_CA_FILE to the"
                " certificate of the authority that signed it."
            )
        if code == AUTHENTICATION_FAILED:
            return ClickHouseRefusedError(
                f"ClickHouse at {self._url} refuses the user: check WEIR_CLICKHOUSE_USER and"
                " WEIR_CLICKHOUSE_PASSWORD."
            )
        if code is None and isinstance(error, OperationalError):
            return ClickHouseUnreachableError(
                f"ClickHouse does not answer at {self._url}: start it with `weir up`"
                " (or `weir warehouse`), or point WEIR_CLICKHOUSE_URL at a running one."
            )
        if code in NO_TABLES:
            return ClickHouseRefusedError(f"{one_line(str(error))}: run `weir migrate` first.")
        return ClickHouseRefusedError(one_line(str(error)), passing=code in PASSING)


def one_line(text: str) -> str:
    """Return ClickHouse's own message on one line, without the text that drivers and servers put around it."""
    bare = TRAILER.sub("", WRAPPING.sub("", text))
    return " ".join(bare.split())
