"""Retry requests to brokers on temporary faults."""

import time
from collections.abc import Callable
from typing import TypeVar

PAUSE_SECONDS = 0.2

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


def retry(
    ask: Callable[[], T],
    kind: type[E],
    passes: Callable[[E], bool],
    seconds: float,
    pause: float | None = None,
) -> T:
    """Return the result of `ask`, which must be repeatable. `pause`: seconds between calls; None: PAUSE_SECONDS.

    After an exception of type `kind` for which `passes` is true, call `ask` again, for at most `seconds`
    from the first call on. Every other exception, and the last one, is raised unchanged.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except kind as fault:
            if not passes(fault) or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_SECONDS if pause is None else pause)
