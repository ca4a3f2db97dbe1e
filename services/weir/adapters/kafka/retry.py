"""Try again while a fault passes: one loop for all that is asked of brokers."""

import time
from collections.abc import Callable
from typing import TypeVar

PAUSE_SECONDS = 0.2

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


def retry(ask: Callable[[], T], kind: type[E], passes: Callable[[E], bool], seconds: float) -> T:
    """Return what `ask` returns. It must be repeatable.

    A fault of this kind that passes is waited out: `ask` is called again, for at most `seconds` from
    the first call on. Every other fault, and the last one, is raised as it is.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except kind as fault:
            if not passes(fault) or time.monotonic() > deadline:
                raise
        time.sleep(PAUSE_SECONDS)
