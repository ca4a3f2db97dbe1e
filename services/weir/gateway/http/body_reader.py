"""Read request bodies within limits of size, time and memory, so that a slow client costs others nothing."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import hdrs
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import PayloadAccessError, RequestPayloadError
from aiohttp.web_request import BaseRequest

from weir.gateway.http.body_budget import Reservation
from weir.gateway.http.connection_limits import ConnectionPriority
from weir.gateway.http.connections import Connection
from weir.gateway.http.decompression import NotReservedError, decompress, too_large
from weir.gateway.http.error_codes import Problem
from weir.gateway.http.problems import gave_way, overloaded

# Returns (decompressed body, None), or (body as far as it is known, why it is rejected).
ReadBody = Callable[[], Awaitable[tuple[bytes, Problem | None]]]
HEAVY_BYTES = 64 * 1024  # larger bodies wait for their turn
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _GaveWayError(Exception):
    """The memory of this body was needed for others."""


class Reading:
    """The reader of one request's body. The creator of the reservation releases it after the answer."""

    __slots__ = ("_cap", "_connection", "_parts", "_request", "_reservation")

    def __init__(self, request: BaseRequest, reservation: Reservation, cap: int) -> None:
        assert isinstance(request.protocol, Connection)
        self._connection = request.protocol
        self._request = request
        self._reservation = reservation
        self._cap = cap
        self._parts = bytearray()

    async def read(self, seconds: float) -> tuple[bytes, Problem | None]:
        """Return (decompressed body, None), or (body, why it is rejected).

        A rejected body is as it was sent if decompression fails, else empty.
        """
        headers = self._request.headers
        encoding = headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
        if not self._reservation.is_stranger:
            self._connection.standing = ConnectionPriority.SENDER
        sent, trouble = await self._receive(seconds)
        if trouble is not None:
            return sent, trouble
        is_encoded = bool(encoding) and encoding != "identity"
        if is_encoded or len(sent) > HEAVY_BYTES:
            turns = self._connection.turns
            is_stranger = self._reservation.is_stranger
            async with turns.of_strangers if is_stranger else turns.of_sources:
                await asyncio.sleep(0)  # let the loop run once, so that others queue up behind this
                if self._connection.transport is None:
                    return b"", Problem(
                        "client_gone", "The connection ended while the body waited for its turn."
                    )
                sent, trouble = self._expand(sent, encoding) if is_encoded else (sent, None)
        self._connection.standing = ConnectionPriority.WAITING
        return sent, trouble

    def _expand(self, sent: bytes, encoding: str) -> tuple[bytes, Problem | None]:
        try:
            body = decompress(sent, encoding, self._cap, self._reservation.take)
        except NotReservedError:
            return b"", overloaded()
        if isinstance(body, Problem):
            return sent, body
        self._reservation.give_back(len(sent))
        return body, None

    async def _receive(self, seconds: float) -> tuple[bytes, Problem | None]:
        request = self._request
        headers = request.headers
        declared = headers.get(hdrs.CONTENT_LENGTH)
        # the parser has checked for digits; leading zeros go, as int() takes at most 4,300 digits
        if declared is not None and int(declared.lstrip("0") or 0) > self._cap:
            return b"", too_large(self._cap)
        content = request.content
        if content.is_eof():  # it came together with its headers, as most bodies do
            body = content.read_nowait()
            self._connection.body_taken()
            return (body, None) if self._reservation.take(len(body)) else (b"", overloaded())
        expected = headers.get(hdrs.EXPECT, "").strip().lower()
        if expected == "100-continue" and request.version >= (1, 1) and request.transport:
            request.transport.write(CONTINUE)
        self._reservation.await_rest(self._give_way)
        try:
            async with asyncio.timeout(seconds):
                return await self._gather()
        except TimeoutError:
            return b"", Problem("body_too_slow", f"The body must arrive within {seconds:g} s.")
        except ConnectionError:
            return b"", Problem("client_gone", "The connection ended before the body was complete.")
        except _GaveWayError:
            return b"", gave_way()
        except (RequestPayloadError, HttpProcessingError, PayloadAccessError) as fault:
            return b"", Problem("invalid_length", f"The body cannot be read: {fault}.")
        finally:
            self._reservation.stop_waiting()
            # a traceback keeps its objects alive until the garbage collector runs, which is late
            self._parts.clear()
            if (raised := content.exception()) is not None:
                raised.__traceback__ = None

    async def _gather(self) -> tuple[bytes, Problem | None]:
        """Collect the body in one buffer, not a list: many small parts would take many times their length."""
        parts = self._parts
        while part := await self._request.content.readany():
            self._connection.body_taken()
            if len(parts) + len(part) > self._cap:
                return b"", too_large(self._cap)
            if not self._reservation.take(len(part)):
                return b"", overloaded()
            parts += part
        return bytes(parts), None

    def _give_way(self) -> None:
        self._parts.clear()
        self._request.content.set_exception(_GaveWayError())
