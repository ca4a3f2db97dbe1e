"""aiohttp's low-level server with our own answers to broken HTTP, and a drain that finishes uploads."""

import asyncio

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from services.gateway.http import Reply, problem
from services.gateway.refusals import Problem
from services.runtime import logs

WRITE_SECONDS = 10.0


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
            answer = problem(Problem("invalid_http", _first_line(message or str(exc))))
        else:
            logs.get("gateway").error("request failed", path=request.path, exc_info=exc)
            answer = problem(Problem("internal", "It is logged; nothing was accepted."))
        self.close()
        # The server only ever calls `prepare`, `write_eof` and `keep_alive`.
        return Reply(request, answer, WRITE_SECONDS, closing=True)  # type: ignore[return-value]

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


def _first_line(text: str) -> str:
    """What the parser found wrong, without the bytes that it quotes."""
    return text.strip().partition("\n")[0].rstrip(":.")[:200] + "."
