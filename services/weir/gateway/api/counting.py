"""Run goal queries in ClickHouse off the event loop."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from weir.adapters.errors import RefusedError, UnavailableError
from weir.core.registry import Goal
from weir.gateway.api.bounded_executor import OVERLOADED, RETRY_SECONDS, BoundedExecutor, BusyError
from weir.gateway.api.goal_counts import SECONDS, GoalBucket, GoalCount, TimeRange
from weir.gateway.http.error_codes import Problem
from weir.runtime import logs

THREADS = 4
WAITING = 16  # queries running or queued; more are rejected at once

T = TypeVar("T")


class GoalCountQueries(Protocol):
    """Blocking queries, callable from any thread: see `services/weir/gateway/api/goal_counts.py`."""

    def stats(self, site_id: str, goals: Sequence[Goal], span: TimeRange) -> list[GoalCount]: ...

    def timeseries(
        self, site_id: str, goals: Sequence[Goal], span: TimeRange, step_ms: int
    ) -> list[GoalBucket]: ...


class GoalCounter:
    """The same queries for the event loop.

    They return a `Problem` if ClickHouse is away, refuses or is too slow, or if too many queries wait.
    """

    def __init__(self, counts: GoalCountQueries) -> None:
        self._counts = counts
        self._executor = BoundedExecutor("counting", THREADS, WAITING)
        self._log = logs.get("gateway")

    async def stats(
        self, site_id: str, goals: Sequence[Goal], span: TimeRange
    ) -> list[GoalCount] | Problem:
        return await self._ask(lambda: self._counts.stats(site_id, goals, span))

    async def timeseries(
        self, site_id: str, goals: Sequence[Goal], span: TimeRange, step_ms: int
    ) -> list[GoalBucket] | Problem:
        return await self._ask(lambda: self._counts.timeseries(site_id, goals, span, step_ms))

    def close(self) -> None:
        """Cancel queued queries; running ones end by themselves within seconds."""
        self._executor.close()

    async def _ask(self, question: Callable[[], T]) -> T | Problem:
        try:
            return await self._executor.run(question, 2 * SECONDS)
        except BusyError:
            return OVERLOADED
        except (UnavailableError, RefusedError, TimeoutError) as fault:
            self._log.warning("goals could not be counted", fault=str(fault) or "too slow")
            text = "ClickHouse cannot answer this query now; events are still accepted."
            return Problem("not_counted", text, "", RETRY_SECONDS)
