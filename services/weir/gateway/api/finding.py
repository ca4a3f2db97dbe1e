"""Searches for an event that do not hold up the event loop: a few threads, few waiting, not for long."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from weir.event_status.model import EventStatus
from weir.gateway.ingest.error_codes import Problem
from weir.runtime import logs

THREADS = 2
WAITING = 8  # questions under way or waiting; further ones are refused at once
SEARCH_SECONDS = 5.0  # in the topics
PATIENCE_SECONDS = 30.0  # for all of it, waiting included
RETRY_SECONDS = 2


class EventSearch(Protocol):
    """Blocking answers, from any thread: `services/weir/event_status/lookup.py`."""

    def find(self, sought: str, scope: tuple[str, ...] | None, seconds: float) -> EventStatus: ...


class EventFinder:
    """The same for the event loop: a few threads, few waiting. A `Problem` when there is too much to do."""

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
        """What waits is given up; what is under way ends by itself within seconds."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _answered(self, answer: "asyncio.Future[EventStatus]") -> None:
        self._asked -= 1
        if not answer.cancelled():
            answer.exception()  # seen, also when nobody waits for it any more
