"""Blocking calls in threads, beside an event loop that must be able to stop at any time."""

import asyncio
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Return the call's result. Its thread is a daemon: unlike an executor's, it never delays the exit."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def complete(set_outcome: Callable[[], None]) -> None:
        if not done.done():  # cancelled: nobody waits any more
            set_outcome()

    def run() -> None:
        try:
            result = call()
        except BaseException as raised:  # noqa: BLE001  # passed on to the caller
            fault = raised
            set_outcome: Callable[[], None] = lambda: done.set_exception(fault)  # noqa: E731
        else:
            set_outcome = lambda: done.set_result(result)  # noqa: E731
        if not loop.is_closed():
            loop.call_soon_threadsafe(complete, set_outcome)

    Thread(target=run, daemon=True).start()
    return await done
