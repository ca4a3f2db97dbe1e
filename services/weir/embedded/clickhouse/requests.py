"""Parses requests of ClickHouse's HTTP interface: credentials, SQL, settings and parameters."""

import base64
import hmac
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from multidict import MultiMapping

from weir.embedded.clickhouse.errors import (
    AUTHENTICATION_FAILED,
    BAD_REQUEST_PARAMETER,
    SUPPORT_IS_DISABLED,
    refusal,
)

# Parameters of the HTTP interface itself; every other parameter is a setting of the query. A
# session_id is accepted but not used: each request has its own session.
_OWN_NAMES = {
    *("query", "database", "default_format", "query_id", "user", "password", "quota_key", "role"),
    *("session_id", "session_timeout", "session_check", "compress", "decompress", "stacktrace"),
    *("buffer_size", "wait_end_of_query", "client_protocol_version", "close_session"),
}
_PARAMETER = "param_"
_MAX_HEADER_VALUE = 1_000


@dataclass(frozen=True)
class QueryRequest:
    """Everything in a request except its body."""

    query: str
    query_id: str
    database: str
    default_format: str
    accept: str
    wait_for_end: bool
    readonly: bool
    reader: bool
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Access:
    """The users that may send requests: the operator and the reader.

    The operator may run all SQL that this server allows; the reader may only read. If the operator has no
    password, any client that reaches the address can be the operator (`foreign_pages` keeps web pages out).
    A reader without a password is admitted only if the operator has none either.
    """

    user: str
    password: str
    reader: str
    reader_password: str

    @property
    def is_open(self) -> bool:
        """Check whether clients are admitted without a password."""
        return not self.password

    def admit(self, request: web.Request) -> bool:
        """Authenticate a request. Return whether the user is the reader; raise code 516 for wrong credentials."""
        user, password = _credentials(request)
        is_reader = _same(user, self.reader)
        if self.password:
            operates = _same(user, self.user) & _same(password, self.password)
            reads = is_reader & _same(password, self.reader_password) & bool(self.reader_password)
        else:
            operates = not is_reader
            reads = is_reader & _same(password, self.reader_password)
        if not (operates or reads):
            raise refusal(AUTHENTICATION_FAILED, "Authentication failed: wrong user or password")
        return reads


def _same(given: str, own: str) -> bool:
    """Compare in a time that does not depend on the content of `own`."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), own.encode())


def read_ask(request: web.Request, form: MultiMapping[Any] | None, reader: bool) -> QueryRequest:
    """Read URL, headers and form fields. Raise code 344 for unsupported features, 408 for unfit values."""
    given: dict[str, str] = dict(request.query)
    if form is not None:
        for name, value in form.items():
            if not isinstance(value, str):
                raise refusal(SUPPORT_IS_DISABLED, "External data is not supported here")
            given[name] = value
    if given.get("compress", "0") != "0" or given.get("decompress", "0") != "0":
        raise refusal(
            SUPPORT_IS_DISABLED,
            "`compress` and `decompress` are not supported here; use Content-Encoding and "
            "Accept-Encoding",
        )
    headers = request.headers
    accept = headers.get("Accept-Encoding", "")
    database = given.get("database") or str(headers.get("X-ClickHouse-Database", ""))
    default = str(headers.get("X-ClickHouse-Format", "TabSeparated"))
    _require_text(database, *given, *given.values())
    return QueryRequest(
        query=given.get("query", ""),
        query_id=_in_a_header("query_id", given.get("query_id") or str(uuid.uuid4())),
        database=database,
        default_format=_in_a_header("default_format", given.get("default_format") or default),
        accept=accept if given.get("enable_http_compression", "0") == "1" else "",
        wait_for_end=given.get("wait_end_of_query", "0") == "1",
        readonly=reader or request.method != "POST",
        reader=reader,
        settings={
            name: value
            for name, value in given.items()
            if name not in _OWN_NAMES and not name.startswith(_PARAMETER)
        },
        parameters={
            name.removeprefix(_PARAMETER): value
            for name, value in given.items()
            if name.startswith(_PARAMETER)
        },
    )


def _require_text(*values: str) -> None:
    """Raise code 408 for text that is not Unicode: header bytes that are not UTF-8, half a surrogate pair."""
    for value in values:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise refusal(BAD_REQUEST_PARAMETER, "The request is not UTF-8") from None


def _in_a_header(name: str, value: str) -> str:
    """Return a value that responses repeat in a header, or raise code 408 if it does not fit there."""
    if len(value) > _MAX_HEADER_VALUE or not (value.isprintable() and value.isascii()):
        raise refusal(
            BAD_REQUEST_PARAMETER,
            f"`{name}` must have at most {_MAX_HEADER_VALUE} printable ASCII characters",
        )
    return value


def _credentials(request: web.Request) -> tuple[str, str]:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            text = base64.b64decode(encoded, validate=True).decode()
        except ValueError:  # not base64, not ASCII, or not UTF-8 inside
            return "", ""
        user, _, password = text.partition(":")
        return user, password
    if "X-ClickHouse-User" in request.headers or "X-ClickHouse-Key" in request.headers:
        return (
            request.headers.get("X-ClickHouse-User", "default"),
            request.headers.get("X-ClickHouse-Key", ""),
        )
    return request.query.get("user", "default"), request.query.get("password", "")
