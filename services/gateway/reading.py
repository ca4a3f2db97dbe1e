"""Reads request bodies within bounds of size, time and memory, one slow client never at another's cost."""

import asyncio

from aiohttp import hdrs
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import PayloadAccessError, RequestPayloadError
from aiohttp.web_request import BaseRequest

from services.gateway.bodies import decompress, too_large
from services.gateway.refusals import Problem

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Budget:
    """Bytes of bodies that may be in memory at once, over all requests of the process."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    def fits(self, size: int) -> bool:
        return self.taken + size <= self.limit


class Reading:
    """One request's body: `read` it, and `release` its memory when the request is answered."""

    __slots__ = ("_budget", "_cap", "_request", "_taken")

    def __init__(self, request: BaseRequest, budget: Budget, cap: int) -> None:
        self._request = request
        self._budget = budget
        self._cap = cap
        self._taken = 0

    async def read(self, seconds: float) -> tuple[bytes, Problem | None]:
        """The decompressed body; or as much as is known of it, with why it is not taken."""
        headers = self._request.headers
        encoding = headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
        sent, trouble = await self._receive(seconds)
        if trouble is not None or not encoding or encoding == "identity":
            return sent, trouble
        if not self._take(self._cap):
            return b"", overloaded()
        body = decompress(sent, encoding, self._cap)
        return (sent, body) if isinstance(body, Problem) else (body, None)

    def release(self) -> None:
        self._budget.taken -= self._taken
        self._taken = 0

    def _take(self, size: int) -> bool:
        if not self._budget.fits(size):
            return False
        self._budget.taken += size
        self._taken += size
        return True

    async def _receive(self, seconds: float) -> tuple[bytes, Problem | None]:
        request = self._request
        headers = request.headers
        declared = headers.get(hdrs.CONTENT_LENGTH)
        # digits, as the parser saw to; of leading zeros Python would take 4,300 at most
        if declared is not None and int(declared.lstrip("0") or 0) > self._cap:
            return b"", too_large(self._cap)
        expected = headers.get(hdrs.EXPECT, "").strip().lower()
        if expected == "100-continue" and request.version >= (1, 1) and request.transport:
            request.transport.write(CONTINUE)
        content = request.content
        if content.is_eof():  # it came together with its headers, as most do
            body = content.read_nowait()
            return (body, None) if self._take(len(body)) else (b"", overloaded())
        try:
            async with asyncio.timeout(seconds):
                return await self._gather()
        except TimeoutError:
            return b"", Problem("body_too_slow", f"A body has to arrive within {seconds:g} s.")
        except ConnectionError:
            return b"", Problem("client_gone", "The connection ended before the body did.")
        except (RequestPayloadError, HttpProcessingError, PayloadAccessError) as fault:
            return b"", Problem("invalid_length", f"The body cannot be read: {fault}.")

    async def _gather(self) -> tuple[bytes, Problem | None]:
        parts: list[bytes] = []
        size = 0
        while part := await self._request.content.readany():
            size += len(part)
            if size > self._cap:
                return b"", too_large(self._cap)
            if not self._take(len(part)):
                return b"", overloaded()
            parts.append(part)
        return b"".join(parts), None


def overloaded() -> Problem:
    return Problem("overloaded", "The gateway holds as much as it may; try again.", "", 1)
