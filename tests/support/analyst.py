"""ClickHouse as analysts see it: rows by way of the client that they use."""

import functools
from typing import Any

import clickhouse_connect

from weir.embedded.ports import LOOPBACK


def ask(port: int, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    return [tuple(row) for row in _client(port).query(sql).result_rows]


@functools.lru_cache(maxsize=4)
def _client(port: int) -> Any:
    """One for all questions: a new one asks for all of the server's settings first, ten times the work of a query."""
    # without a session, which would let one question wait for another
    return clickhouse_connect.get_client(host=LOOPBACK, port=port, autogenerate_session_id=False)
