"""Search for an event off the event loop."""

from typing import Protocol

from weir.event_status.model import EventStatus
from weir.gateway.api.bounded_executor import OVERLOADED, RETRY_SECONDS, BoundedExecutor, BusyError
from weir.gateway.http.error_codes import Problem
from weir.runtime import logs

THREADS = 2
WAITING = 8  # searches running or queued; more are rejected at once
SEARCH_SECONDS = 5.0  # to read the topics
PATIENCE_SECONDS = 30.0  # for the whole search, including its time in the queue


class EventSearch(Protocol):
    """A blocking search, callable from any thread: see `services/weir/event_status/lookup.py`."""

    def find(self, sought: str, scope: tuple[str, ...] | None, seconds: float) -> EventStatus: ...


class EventFinder:
    """The same search for the event loop; a `Problem` if too many searches wait or one takes too long."""

    def __init__(self, search: EventSearch) -> None:
        self._search = search
        self._executor = BoundedExecutor("finding", THREADS, WAITING)
        self._log = logs.get("gateway")

    async def find(self, sought: str, scope: tuple[str, ...]) -> EventStatus | Problem:
        try:
            return await self._executor.run(
                lambda: self._search.find(sought, scope, SEARCH_SECONDS), PATIENCE_SECONDS
            )
        except BusyError:
            return OVERLOADED
        except TimeoutError:
            self._log.warning("the search for an event took too long")
            return Problem("cannot_tell", "The search took too long; try again.", "", RETRY_SECONDS)

    def close(self) -> None:
        """Cancel queued searches; running ones end by themselves within seconds."""
        self._executor.close()
