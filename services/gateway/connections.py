"""aiohttp's low-level server with our own loop over requests, answers to broken HTTP, and a drain.

The loop uses what is private to aiohttp; its version is pinned, and the contract tests talk HTTP.
"""

import asyncio
from contextlib import suppress

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import InvalidURLError, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import _PAYLOAD_ACCESS_ERROR, ERROR, RequestHandler, _ErrInfo
from aiohttp.web_request import BaseRequest

from services.gateway.http import Reply, problem
from services.gateway.refusals import Problem
from services.runtime import logs

WRITE_SECONDS = 10.0
MAX_LINE_BYTES = 8_190  # aiohttp's own limit


class Connection(RequestHandler):
    """One client's connection. Faults of HTTP itself are answered as problems too, and close it."""

    __slots__ = ()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status < 500:
            answer = problem(Problem("invalid_http", _what_is_wrong(exc, message or str(exc))))
        else:
            # not its path, which may hold a key
            logs.get("gateway").error("request failed", method=request.method, exc_info=exc)
            text = "It is logged. The events are not known to be stored: send them again with the same ids."
            answer = problem(Problem("internal", text))
        self.close()
        # The server only ever calls `prepare`, `write_eof` and `keep_alive`.
        return Reply(request, answer, WRITE_SECONDS, closing=True)  # type: ignore[return-value]

    async def start(self) -> None:
        """Answer this connection's requests, one after the other, until it ends.

        As aiohttp's own, less what is never used here: a task for every request (a seventh of the
        CPU time that a small one takes), upgrades and an access log.
        """
        loop = self._loop
        while not self._force_close:
            if not self._messages:
                await self._next_request()
            message, payload = self._messages.popleft()
            if self._parser is not None:  # gone with the connection; its last request is answered
                self._parser.message_consumed()
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            if not await self._answer(message, payload):
                break
            if not payload.is_eof():
                await self._linger(payload)
            payload.set_exception(_PAYLOAD_ACCESS_ERROR)
            if not self._keepalive or self._close:
                break
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
        """False: the client is gone, or nothing more can be said to it."""
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
        except Exception:  # noqa: BLE001  # of the answering itself: one connection's end, no more
            logs.get("gateway").exception("answering failed")
            self.force_close()
            return False
        except BaseException:
            self.force_close()
            raise
        self._keepalive = bool(reply.keep_alive)
        return not gone

    async def _linger(self, payload: StreamReader) -> None:
        """Read the rest of a refused body away for a while: the client reads its answer after that."""
        with suppress(Exception):  # slow, broken or gone: it is closed in any case
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof():
                    await payload.readany()
        if not payload.is_eof():
            self.close()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self._request_in_progress


class Server(web.Server):
    """Makes such connections, and drains them."""

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)

    async def drain(self, seconds: float) -> bool:
        """Close what is idle, let requests under way finish; whether all did within `seconds`.

        (`pre_shutdown` would stop reading the bodies of those under way.) The app has to answer
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


def _what_is_wrong(fault: BaseException | None, text: str) -> str:
    """What the parser found wrong, without the bytes that it quotes: they may hold a key."""
    if isinstance(fault, InvalidURLError):
        return "The request line holds no valid URL."
    if isinstance(fault, LineTooLong):
        return f"The request line, or a header, is longer than {MAX_LINE_BYTES:,} bytes."
    return text.strip().partition("\n")[0].rstrip(":.")[:200] + "."
