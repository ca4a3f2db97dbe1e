"""A service ends after too many recoveries without a commit between them."""

import pytest

from weir.runtime.recovery_limit import (
    AT_LEAST_SECONDS,
    LIMIT,
    WITHIN_SECONDS,
    RecoveryFailedError,
    RecoveryLimit,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def begin(recoveries: RecoveryLimit, clock: Clock, times: int, every: float) -> None:
    for _ in range(times):
        recoveries.begin("no answer")
        clock.now += every


def test_too_many_recoveries_without_a_commit_raise_with_the_last_fault() -> None:
    clock = Clock()
    recoveries = RecoveryLimit(clock)
    begin(recoveries, clock, LIMIT, 25)
    with pytest.raises(RecoveryFailedError) as ended:
        recoveries.begin("still no answer")
    assert str(ended.value) == (
        f"{LIMIT} recoveries in {25 * LIMIT} s without a commit between them; "
        "the last fault: still no answer"
    )


def test_recoveries_that_each_take_minutes_end_it_too() -> None:
    clock = Clock()
    with pytest.raises(RecoveryFailedError):
        begin(RecoveryLimit(clock), clock, LIMIT + 1, 300)


def test_a_commit_resets_the_recovery_count() -> None:
    clock = Clock()
    recoveries = RecoveryLimit(clock)
    for _ in range(10):
        begin(recoveries, clock, LIMIT, 25)
        recoveries.committed()


def test_recoveries_outside_the_time_window_do_not_count() -> None:
    clock = Clock()
    begin(RecoveryLimit(clock), clock, 10 * LIMIT, WITHIN_SECONDS / (LIMIT - 1))


def test_many_quick_recoveries_do_not_end_the_service_within_the_minimum_time() -> None:
    """A supervisor would give up a process that ends every few seconds."""
    clock = Clock()
    begin(RecoveryLimit(clock), clock, 10 * LIMIT, AT_LEAST_SECONDS / (10 * LIMIT))
