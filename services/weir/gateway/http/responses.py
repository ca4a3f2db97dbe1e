"""HTTP responses for aiohttp's low-level server: head and body in one write, nothing computed twice."""

import asyncio
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from aiohttp.web_request import BaseRequest

from weir.gateway.http.error_codes import PROBLEMS, Problem

JSON = b"application/json"
PROBLEM_JSON = b"application/problem+json"
TEXT = b"text/plain; charset=utf-8"
PROBLEM_TYPE = "urn:weir:problem:"

_encode = msgspec.json.Encoder().encode
# A browser must never interpret an answer as a script or a page, however a page requests it.
_NO_SNIFFING = "X-Content-Type-Options: nosniff\r\n"
_status_lines = {
    s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n{_NO_SNIFFING}".encode()
    for s in HTTPStatus
    if s.value >= 200
}


class _Clock:
    """The Date header, rebuilt once a second."""

    second = -1
    line = b""

    def date(self) -> bytes:
        now = int(time.time())
        if now != self.second:
            self.second = now
            self.line = f"Date: {formatdate(now, usegmt=True)}\r\n".encode()
        return self.line


_clock = _Clock()


class Answer(NamedTuple):
    """The answer to a request. `headers` are whole lines, each with its CRLF."""

    status: int
    body: bytes
    kind: bytes = JSON
    headers: bytes = b""


def problem(what: Problem, headers: bytes = b"", **members: object) -> Answer:
    """Return an RFC 9457 problem document; `members` are its extensions."""
    kind = PROBLEMS[what.code]
    document: dict[str, object] = {
        "type": PROBLEM_TYPE + what.code,
        "title": kind.title,
        "status": kind.status,
        "detail": what.detail,
        "code": what.code,
    }
    if what.field:
        document["field"] = what.field
    if what.retry_after:
        headers += b"Retry-After: %d\r\n" % what.retry_after
    return Answer(kind.status, _encode(document | members), PROBLEM_JSON, headers)


def closing_answer(answer: Answer) -> bytes:
    """Return the bytes of an answer that closes a connection before any request was read."""
    status, body, kind, headers = answer
    return b"%b%bContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
        _status_lines[status],
        headers,
        kind,
        len(body),
        body,
    )


class Reply:
    """The response that the low-level server writes, with the part of `StreamResponse` that it uses."""

    __slots__ = ("_answer", "_seconds", "keep_alive", "status")

    def __init__(
        self, request: BaseRequest, answer: Answer, seconds: float, closing: bool = False
    ) -> None:
        self.status = answer.status
        self.keep_alive = bool(request.keep_alive) and not closing
        self._answer = answer
        self._seconds = seconds

    async def prepare(self, request: BaseRequest) -> None:
        """Write the answer. `ConnectionResetError` if the client is gone or reads too slowly."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        status, body, kind, headers = self._answer
        parts = [_status_lines[status], _clock.date(), headers]
        if status not in (204, 304):
            parts += (b"Content-Type: ", kind, b"\r\nContent-Length: %d\r\n" % len(body))
        if not self.keep_alive:
            parts.append(b"Connection: close\r\n")
        elif request.version < (1, 1):
            parts.append(b"Connection: keep-alive\r\n")
        parts.append(b"\r\n")
        if request.method != "HEAD":
            parts.append(body)
        transport.write(b"".join(parts))
        if transport.get_write_buffer_size() > 65_536:
            await self._drain(request, transport)

    async def _drain(self, request: BaseRequest, transport: asyncio.Transport) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await request.protocol._drain_helper()
        except TimeoutError:
            transport.abort()
            raise ConnectionResetError from None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: `prepare` has written everything."""
