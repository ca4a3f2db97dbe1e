"""Reads request bodies whole and decompresses them; limits the size of each and of all together."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError
from multidict import MultiMapping

from weir.embedded.clickhouse import encodings
from weir.embedded.clickhouse.errors import (
    BAD_REQUEST_PARAMETER,
    TOO_MANY_BYTES,
    TOO_MANY_QUERIES,
    refusal,
)

_FORM_BYTES = 2 << 20
# Raised for bad boundaries, part headers, charsets, transfer and content encodings, in this order.
_MALFORMED = (
    *(ValueError, HttpProcessingError, LookupError, RuntimeError, AssertionError),
    *(ClientPayloadError, RequestPayloadError, zlib.error),
)


@dataclass(frozen=True)
class InsertBody:
    content: bytes
    form: MultiMapping[Any] | None = None


class Bodies:
    """Holds at most `max_all` bytes of bodies, none of them larger than `max_one`."""

    def __init__(self, max_one: int, max_all: int) -> None:
        self._max_one = max_one
        self._max_all = max_all
        self.held_bytes = 0

    @asynccontextmanager
    async def hold(self, request: web.Request) -> AsyncIterator[InsertBody]:
        """Read a body before any thread is used, so that a slow client does not block others."""
        taken = 0
        try:
            if request.content_type == "multipart/form-data":
                taken += self._take(_FORM_BYTES, taken)
                yield InsertBody(b"", await _read_form(request))
                return
            pieces = []
            with _refusing_malformed():
                async for piece in request.content.iter_chunked(1 << 18):
                    taken += self._take(len(piece), taken)
                    pieces.append(piece)
            packed = b"".join(pieces)
            encoding = request.headers.get("Content-Encoding", "")
            content = await self._unpack(packed, encoding)
            del packed, pieces
            if len(content) > taken:
                taken += self._take(len(content) - taken, taken)
            yield InsertBody(content)
        finally:
            self.held_bytes -= taken

    def _take(self, size: int, taken: int) -> int:
        if taken + size > self._max_one:
            raise refusal(TOO_MANY_BYTES, f"The request is larger than {self._max_one} bytes")
        if self.held_bytes + size > self._max_all:
            raise refusal(TOO_MANY_QUERIES, "Too many bytes of requests in memory; try again")
        self.held_bytes += size
        return size

    async def _unpack(self, packed: bytes, encoding: str) -> bytes:
        if not packed or encoding in ("", "identity"):
            return packed
        try:
            return await asyncio.to_thread(encodings.decode, packed, encoding, self._max_one)
        except encodings.TooLarge as fault:
            raise refusal(TOO_MANY_BYTES, str(fault)) from None
        except ValueError as fault:
            raise refusal(BAD_REQUEST_PARAMETER, str(fault)) from None


async def _read_form(request: web.Request) -> MultiMapping[Any]:
    """Read the form fields: SQL and its parameters, which are small. `read_ask` refuses files."""
    try:
        with _refusing_malformed():
            return await request.clone(client_max_size=_FORM_BYTES).post()
    except web.HTTPRequestEntityTooLarge:
        raise refusal(TOO_MANY_BYTES, f"The form is larger than {_FORM_BYTES} bytes") from None


@contextmanager
def _refusing_malformed() -> Iterator[None]:
    """Turn what aiohttp raises for a malformed body into code 408."""
    try:
        yield
    except _MALFORMED as fault:
        raise refusal(BAD_REQUEST_PARAMETER, f"The body is malformed: {fault}") from None
