"""Hypothesis, driven: how much was tried, and what failed, as small as it could be made."""

import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisWarning, Unsatisfiable
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

PHASES = (Phase.generate, Phase.shrink)


class FoundError(Exception):
    """An input that the gateway fails at: the pieces of a connection, so that it can be sent again."""

    def __init__(self, fault: Exception, pieces: Sequence[bytes]) -> None:
        parts = fault.exceptions if isinstance(fault, ExceptionGroup) else [fault]
        super().__init__("; ".join(f"{type(part).__name__}: {part}" for part in parts))
        self.pieces = pieces


def explore(
    strategy: SearchStrategy[T],
    check: Callable[[T], None],
    pieces: Callable[[T], Sequence[bytes]],
    number: int,
    examples: int,
) -> int:
    """How many inputs were tried; `FoundError` with the smallest that failed. `number`: the seed."""
    tried = 0
    last: list[T] = []

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(strategy)
    def run(one: T) -> None:
        nonlocal tried
        tried += 1
        last[:] = [one]
        check(one)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypothesisWarning)  # inputs are large, and meant to be
            run()
    except Unsatisfiable:
        pass  # nothing can be wrong where nothing is asked for
    except Exception as fault:  # whatever it is, it is what was looked for
        if not last:
            raise
        raise FoundError(fault, pieces(last[0])) from fault
    return tried
