"""Thread pools, called lanes, with bounded queues: work of one kind waits only for work of its own kind."""

import asyncio
from collections.abc import Callable
from concurrent import futures
from typing import Any, ParamSpec, TypeVar

from weir.embedded.clickhouse.errors import TOO_MANY_QUERIES, refusal

P = ParamSpec("P")
T = TypeVar("T")


class ThreadPool:
    """Runs at most `threads` calls at once and queues at most `waiting`; refuses further work with code 202."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self.name = name
        self._threads = threads
        self._capacity = threads + waiting
        self._pool = futures.ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._open: set[futures.Future[Any]] = set()

    @property
    def running(self) -> int:
        return min(len(self._open), self._threads)

    @property
    def waiting(self) -> int:
        return max(len(self._open) - self._threads, 0)

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Start or queue `work`. Cancelling the future removes queued work; running work is not interrupted."""
        if len(self._open) >= self._capacity:
            raise refusal(TOO_MANY_QUERIES, f"Too many simultaneous queries in lane {self.name!r}")
        loop = asyncio.get_running_loop()
        future = self._pool.submit(work, *args, **kwargs)
        self._open.add(future)

        def done(finished: futures.Future[T]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._open.discard, finished)

        future.add_done_callback(done)
        return asyncio.wrap_future(future, loop=loop)

    async def drain(self, seconds: float) -> bool:
        """Wait until nothing runs or waits; return False if that took longer than `seconds`."""
        pending = list(self._open)
        _, late = await asyncio.to_thread(futures.wait, pending, seconds)
        return not late

    def close(self) -> None:
        """Wait until running work is done and end the threads; queued work is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
