"""Run blocking calls off the event loop: few threads, a short queue and a time limit."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from weir.gateway.http.error_codes import Problem

RETRY_SECONDS = 2
OVERLOADED = Problem("overloaded", "Too many such requests at once.", "", RETRY_SECONDS)

T = TypeVar("T")


class BusyError(Exception):
    """Too many calls are running or queued: `OVERLOADED` is the answer."""


class BoundedExecutor:
    """Threads with a bounded queue. `waiting`: calls running or queued; more are rejected at once."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(threads, name)
        self._waiting = waiting
        self._calls = 0

    async def run(self, call: Callable[[], T], seconds: float) -> T:
        """Return what `call` returns. `BusyError`; `TimeoutError` after `seconds`, its time in the queue included."""
        if self._calls >= self._waiting:
            raise BusyError
        self._calls += 1
        answer = asyncio.get_running_loop().run_in_executor(self._threads, call)
        # it counts until its thread is done, even if no request waits for it any more
        answer.add_done_callback(self._done)
        return await asyncio.wait_for(asyncio.shield(answer), seconds)

    def close(self) -> None:
        """Cancel queued calls; running ones end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _done(self, answer: "asyncio.Future[Any]") -> None:
        self._calls -= 1
        if not answer.cancelled():
            answer.exception()  # mark as retrieved, even if no request waits for it any more
