"""The goals that all gateway processes share, for the event loop: one thread, a bounded queue, a time limit."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from weir.adapters.errors import UnavailableError
from weir.core.registry import Goal
from weir.gateway.http.error_codes import Problem
from weir.registry.goal_log import GoalDecision, GoalQuestion
from weir.runtime import logs

WAITING = 256  # questions under way or waiting; more are rejected at once
WAIT_SECONDS = 15.0
RETRY_SECONDS = 2

T = TypeVar("T")


class Log(Protocol):
    """Blocking answers, called from one thread: see `services/weir/registry/goal_log.py`."""

    def decide(self, questions: Sequence[GoalQuestion]) -> list[Any]: ...


class SharedGoals:
    """A `goals.GoalStore`. Questions that arrive while the log is busy are answered together."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._thread = ThreadPoolExecutor(1, "goals")
        self._waiting: list[tuple[GoalQuestion, asyncio.Future[Any]]] = []
        self._asked = 0
        self._work: asyncio.Task[None] | None = None  # None while no question waits

    async def decide(
        self, site_id: str, decide: Callable[[list[Goal]], GoalDecision[T]]
    ) -> T | Problem:
        if self._asked >= WAITING:
            return Problem("overloaded", "Too many such requests at once.", "", RETRY_SECONDS)
        waiter: asyncio.Future[T | Problem] = asyncio.get_running_loop().create_future()
        self._waiting.append((GoalQuestion(site_id, decide), waiter))
        self._asked += 1
        if self._work is None:
            self._work = asyncio.create_task(self._answer_all())
        try:
            return await asyncio.wait_for(waiter, WAIT_SECONDS)
        except TimeoutError:
            return _not_answered()

    def close(self) -> None:
        """Give up questions that wait; a call to the log under way ends by itself within seconds."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _answer_all(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, []
            # a waiter that is done has given up: its question must not be carried out later
            wanted = [(question, waiter) for question, waiter in asked if not waiter.done()]
            await self._answer(wanted)
            self._asked -= len(asked)
        self._work = None

    async def _answer(self, asked: Sequence[tuple[GoalQuestion, asyncio.Future[Any]]]) -> None:
        questions = [question for question, _ in asked]
        loop = asyncio.get_running_loop()
        decided = loop.run_in_executor(self._thread, self._log.decide, questions)
        await asyncio.wait([decided])
        fault = decided.exception()
        if isinstance(fault, UnavailableError):
            logs.get("gateway").warning("goals could not be read or changed", fault=str(fault))
            answers: list[Any] = [_not_answered()] * len(asked)
        elif fault is None:
            answers = decided.result()
        for place, (_, waiter) in enumerate(asked):
            if waiter.done():
                continue
            if fault is None or isinstance(fault, UnavailableError):
                waiter.set_result(answers[place])
            else:  # a fault of the program: each request fails with it, and is logged
                waiter.set_exception(fault)


def _not_answered() -> Problem:
    text = (
        "The brokers did not answer in time, so the goal may be changed or not. Send the request again: it is done"
        " only once, however often it is sent."
    )
    return Problem("unacknowledged", text, "", RETRY_SECONDS)
