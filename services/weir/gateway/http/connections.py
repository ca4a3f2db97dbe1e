"""HTTP connections on aiohttp's low-level server: own request loop, answers to broken HTTP, and drain.

The loop uses private parts of aiohttp. So its version is pinned, and the contract tests speak HTTP.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, InvalidURLError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import (
    _PAYLOAD_ACCESS_ERROR,
    ERROR,
    RequestHandler,
    RequestPayloadError,
    _ErrInfo,
)
from aiohttp.web_request import BaseRequest

from weir.gateway.http.connection_limits import ConnectionPriority, ConnectionSlots, ReadAhead
from weir.gateway.http.error_codes import Problem
from weir.gateway.http.problems import overloaded
from weir.gateway.http.rate_limits import Proxies, network_of
from weir.gateway.http.responses import Reply, closing_answer, problem
from weir.runtime import logs

WRITE_SECONDS = 10.0
# The parser gets received bytes in pieces of this size, and none before a request can use them. So the
# parser holds at most one piece of a connection, which cannot be counted there.
PIECE_BYTES = 16 * 1024
# At most so many unread HTTP chunks of a body. Each takes microseconds, so tiny ones would take seconds.
MAX_CHUNKS = 1_000
HEADS = 4  # the whole head of a request may have this many times the bytes of one line
MAX_HEADERS = 128  # aiohttp's own limit
REQUEST_LINE_REST = 16  # bytes of a request line besides its URL, at most: method and version


class BodyTurns:
    """Locks that let heavy bodies be processed one at a time, with an event loop iteration in between.

    Otherwise many heavy bodies, all ready at once, would delay all other requests for seconds. Bodies of
    strangers have a queue of their own.
    """

    def __init__(self) -> None:
        self.of_strangers = asyncio.Lock()
        self.of_sources = asyncio.Lock()


@dataclass(frozen=True)
class ConnectionLimits:
    """The limits of connections, alone and together."""

    places: ConnectionSlots
    read_ahead: ReadAhead
    line_bytes: int  # of a head
    proxies: Proxies  # a proxy's connections carry many clients, so its address is not limited
    turns: BodyTurns


class HeadTooLargeError(BadHttpMessage):
    """The head of a request is longer than it may be."""


class Connection(RequestHandler):
    """One client's connection. Faults in HTTP itself are also answered with a problem, and close it."""

    __slots__ = (
        "_body_left",
        "_ended",
        "_head_bytes",
        "_limits",
        "_newest",
        "_unparsed",
        "_unparsed_bytes",
        "standing",
        "unread",
    )

    def __init__(self, server: "Server", limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(server, **options)
        self._limits = limits
        self.standing = ConnectionPriority.IDLE
        self.unread = 0
        self._unparsed: deque[bytes] = deque()
        self._unparsed_bytes = 0
        self._newest = EMPTY_PAYLOAD  # the body of the latest request
        self._body_left = 0  # its bytes that have not arrived; 0: none, or unknown
        self._head_bytes = 0  # received of an incomplete head
        self._ended = False  # the client sends nothing more

    @property
    def turns(self) -> BodyTurns:
        return self._limits.turns

    # --- its place among other connections

    @property
    def quiet_since(self) -> float:
        return self._next_keepalive_close_time

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        limits = self._limits
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        limited = "" if limits.proxies.is_trusted(address) else network_of(address)
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if not limits.places.enter(self, limited):
            assert isinstance(transport, asyncio.Transport)
            transport.write(closing_answer(problem(overloaded())))
            transport.close()
            self._force_close = True
            return
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._limits.places.leave(self)
        self._unparsed.clear()
        self._unparsed_bytes = 0
        self.body_taken()
        self._newest = EMPTY_PAYLOAD  # the old body refers to this connection
        super().connection_lost(exc)

    def give_up(self) -> None:
        transport = self.transport
        self.force_close()
        self._messages.clear()  # their bodies refer to this connection, which would stay in memory for long
        if transport is not None:
            transport.abort()  # unsent bytes would keep it open

    def hold(self) -> None:
        self._pause_transport_reading()

    def go_on(self) -> None:
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        if not self._unparsed and not self._limits.read_ahead.is_holding:
            super()._resume_transport_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Resume if reading is paused. aiohttp calls this after every read of a body, mostly without a pause."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    # --- receiving

    def body_taken(self) -> None:
        """Count all parsed bytes as read: only unparsed bytes are still unread."""
        if self.unread != self._unparsed_bytes:
            change = self._unparsed_bytes - self.unread
            self.unread = self._unparsed_bytes
            self._limits.read_ahead.change(change)

    def data_received(self, data: bytes) -> None:
        size = len(data)
        if not size:  # so aiohttp signals that the parser may go on
            super().data_received(data)
            if self._unparsed:
                self._parse()
            return
        if self._force_close or self._close:
            return
        self.unread += size
        if not self._limits.read_ahead.takes(size):
            self.give_up()
            return
        if size <= PIECE_BYTES and not self._unparsed and not self._is_full:
            self._feed(data)
            return
        self._unparsed_bytes += size
        self._unparsed.append(data)
        self._parse()

    @property
    def _is_full(self) -> bool:
        """Whether new bytes must wait: for the reader of a body, or for the answer to an earlier request."""
        unanswered = len(self._messages) + self._request_in_progress
        return self._reading_paused or unanswered > 1 or (unanswered == 1 and self._newest.is_eof())

    def _parse(self) -> None:
        while self._unparsed and not self._is_full:
            piece = self._unparsed.popleft()
            # feed a body of known length whole: it contains no later request to be parsed too early
            size = max(PIECE_BYTES, self._body_left)
            if len(piece) > size:
                self._unparsed.appendleft(piece[size:])
                piece = piece[:size]
            self._unparsed_bytes -= len(piece)
            self._feed(piece)
        if self._unparsed:
            self._pause_transport_reading()
        else:
            self.go_on()

    def _feed(self, piece: bytes) -> None:
        before, was_head = self._request_count, self._newest.is_eof()
        super().data_received(piece)
        if self._body_left:
            self._body_left -= len(piece)
        if self._request_count != before:
            self._head_bytes = 0
            if self._messages:
                message, self._newest = self._messages[-1]
                self._body_left = _left(message, self._newest)
        elif was_head:
            self._head_bytes += len(piece)
            if self._head_bytes > HEADS * self._limits.line_bytes:
                self._refuse_head()
        if not self._newest.is_eof() and len(self._newest._http_chunk_splits or ()) > MAX_CHUNKS:
            self._refuse_chunks()

    def _refuse_chunks(self) -> None:
        self._newest.set_exception(RequestPayloadError("its chunks have only a few bytes each"))
        self._unparsed.clear()
        self._unparsed_bytes = 0
        self.close()

    def _refuse_head(self) -> None:
        self._unparsed.clear()
        self._unparsed_bytes = 0
        self._messages.append((_ErrInfo(400, HeadTooLargeError(""), ""), EMPTY_PAYLOAD))
        self._pause_transport_reading()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio knows it, aiohttp does not
        """Note that the client sends nothing more. Without TLS its complete requests are still answered."""
        self._ended = True
        if self.ssl_context is not None:  # TLS ends in both directions at once
            return False
        if not self._newest.is_eof():
            self._newest.set_exception(ConnectionResetError())
            return True
        return bool(self._messages or self._unparsed) or self._request_in_progress

    # --- answering

    def finish_response(
        self, request: BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        self.standing = ConnectionPriority.SENDER
        return super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status < 500:
            answer = problem(_what_is_wrong(exc, message or str(exc), self._limits.line_bytes))
        else:
            # not its path, which may hold a key
            logs.get("gateway").error("request failed", method=request.method, exc_info=exc)
            text = (
                "The error is logged. It is not known whether the events are stored: send them again"
                " with the same ids."
            )
            answer = problem(Problem("internal", text))
        self.close()
        # The server only ever calls `prepare`, `write_eof` and `keep_alive`.
        return Reply(request, answer, WRITE_SECONDS, closing=True)  # type: ignore[return-value]

    async def start(self) -> None:
        """Answer this connection's requests, one after the other, until it ends.

        Like aiohttp's own `start`, without what is never used here: a task for every request (a seventh of
        the CPU time of a small request), upgrades and an access log.
        """
        loop = self._loop
        while not self._force_close:
            if not self._messages:
                if self._ended:
                    break
                await self._next_request()
                if not self._messages:
                    break
            message, payload = self._messages.popleft()
            if self._parser is not None:  # None once the connection is lost
                self._parser.message_consumed()
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            if not await self._answer(message, payload):
                break
            if not payload.is_eof():
                await self._linger(payload)
            payload.set_exception(_PAYLOAD_ACCESS_ERROR)
            self.standing = ConnectionPriority.IDLE
            if not self._keepalive or self._close:
                break
            if self._unparsed:
                self._parse()
            self.body_taken()
            self._next_keepalive_close_time = loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = loop.call_at(
                    self._next_keepalive_close_time, self._process_keepalive
                )
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _next_request(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def _answer(self, message: RawRequestMessage | _ErrInfo, payload: StreamReader) -> bool:
        """Answer one request; return False if the client is gone or nothing more can be sent to it."""
        # a request without a body is complete, so its sender does not matter
        whole = payload is EMPTY_PAYLOAD
        self.standing = ConnectionPriority.WAITING if whole else ConnectionPriority.STRANGER
        handler = self._request_handler
        if isinstance(message, _ErrInfo):
            handler, message = self._make_error_handler(message), ERROR
        assert handler is not None
        # no stream writer: a `Reply` writes to the transport
        request = BaseRequest(message, payload, self, None, self._task_handler, self._loop)  # type: ignore[arg-type]
        try:
            reply, gone = await self._handle_request(request, None, handler)
        except ConnectionError:
            return False
        except Exception:  # noqa: BLE001  # a fault in answering ends only this connection
            logs.get("gateway").exception("answering a request failed")
            self.force_close()
            return False
        except BaseException:
            self.force_close()
            raise
        self._keepalive = bool(reply.keep_alive)
        return not gone

    async def _linger(self, payload: StreamReader) -> None:
        """Read and discard the rest of a rejected body for a while: clients read the answer only after sending."""
        with suppress(Exception):  # a slow, broken or lost connection is closed in any case
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof():
                    await payload.readany()
                    self.body_taken()
        if not payload.is_eof():
            self.close()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self._request_in_progress


class Server(web.Server):
    """The server that makes the connections, and drains them."""

    def __init__(self, handler: Any, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(
            handler,
            max_line_size=limits.line_bytes - REQUEST_LINE_REST,
            max_field_size=limits.line_bytes,
            **options,
        )
        self._limits = limits
        limits.read_ahead.connections = limits.places

    def __call__(self) -> Connection:
        return Connection(self, self._limits, loop=self._loop, **self._kwargs)

    async def drain(self, seconds: float) -> bool:
        """Close idle connections and let requests under way finish; return whether all did within `seconds`.

        aiohttp's `pre_shutdown` would stop reading the bodies of requests under way. The app must answer
        with `Connection: close` from now on.
        """
        deadline = self._loop.time() + seconds
        while busy := self._close_idle():
            if self._loop.time() > deadline:
                break
            await asyncio.sleep(0.02)
        await self.shutdown(1.0)
        return not busy

    def _close_idle(self) -> int:
        busy = 0
        for connection in self.connections:
            assert isinstance(connection, Connection)
            if connection.is_busy:
                busy += 1
            else:
                connection.close()
        return busy


def _left(message: RawRequestMessage | _ErrInfo, body: StreamReader) -> int:
    """Return how many bytes of a body have not arrived yet; 0 if all have, or if that is not known."""
    if body.is_eof() or isinstance(message, _ErrInfo):
        return 0
    length = message.headers.get(hdrs.CONTENT_LENGTH, "0").lstrip("0")
    return int(length or 0) - body.total_bytes if len(length) < 19 else 0


def _what_is_wrong(fault: BaseException | None, text: str, line_bytes: int) -> Problem:
    """Return what the parser found wrong, without the bytes that it quotes: they may contain a key."""
    if isinstance(fault, InvalidURLError):
        return Problem("invalid_http", "The URL in the request line is not valid.")
    if isinstance(fault, LineTooLong):
        if fault.args[1] == line_bytes:
            return Problem("head_too_large", f"A header may have at most {line_bytes:,} bytes.")
        most = line_bytes - REQUEST_LINE_REST
        return Problem("url_too_long", f"A URL may have at most {most:,} bytes.")
    if isinstance(fault, HeadTooLargeError):
        most = HEADS * line_bytes
        return Problem("head_too_large", f"All headers together may have at most {most:,} bytes.")
    if text.startswith("Too many headers"):
        return Problem("head_too_large", f"A request may have at most {MAX_HEADERS} headers.")
    return Problem("invalid_http", text.strip().partition("\n")[0].rstrip(":.")[:200] + ".")
