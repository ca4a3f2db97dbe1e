"""Search for an event off the event loop: few threads, a short queue and a time limit."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from weir.event_status.model import EventStatus
from weir.gateway.ingest.error_codes import Problem
from weir.runtime import logs

THREADS = 2
WAITING = 8  # searches running or queued; more are rejected at once
SEARCH_SECONDS = 5.0  # to read the topics
PATIENCE_SECONDS = 30.0  # for the whole search, including its time in the queue
RETRY_SECONDS = 2


class EventSearch(Protocol):
    """A blocking search, callable from any thread: see `services/weir/event_status/lookup.py`."""

    def find(self, sought: str, scope: tuple[str, ...] | None, seconds: float) -> EventStatus: ...


class EventFinder:
    """The same search for the event loop; a `Problem` if too many searches wait or one takes too long."""

    def __init__(self, finds: EventSearch) -> None:
        self._finds = finds
        self._threads = ThreadPoolExecutor(THREADS, "finding")
        self._asked = 0
        self._log = logs.get("gateway")

    async def find(self, sought: str, scope: tuple[str, ...]) -> EventStatus | Problem:
        if self._asked >= WAITING:
            return Problem("overloaded", "Too many such questions at once.", "", RETRY_SECONDS)
        self._asked += 1
        answer = asyncio.get_running_loop().run_in_executor(
            self._threads, self._finds.find, sought, scope, SEARCH_SECONDS
        )
        answer.add_done_callback(self._answered)
        try:
            return await asyncio.wait_for(asyncio.shield(answer), PATIENCE_SECONDS)
        except TimeoutError:
            self._log.warning("an event was not found in time")
            return Problem("cannot_tell", "The search took too long.", "", RETRY_SECONDS)

    def close(self) -> None:
        """Cancel queued searches; running ones end by themselves within seconds."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _answered(self, answer: "asyncio.Future[EventStatus]") -> None:
        self._asked -= 1
        if not answer.cancelled():
            answer.exception()  # mark as retrieved, even if no request waits for it any more
