"""The guard refuses while old records are unread, tells each change once, and keeps its mind when blind."""

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.core.retention import Unread
from services.edge.faults import NotReachedError
from services.gateway.guard import RetentionGuard
from services.gateway.refusals import PROBLEMS, Problem

ACCEPTED = "events.accepted"


class Looks:
    """Each look finds what was put here last; a fault is raised."""

    def __init__(self) -> None:
        self.found: list[Unread] | Exception = []

    def __call__(self) -> list[Unread]:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def find(self, guard: RetentionGuard, **shares: float) -> list[str]:
        """One look that finds these shares, and the levels of what was logged."""
        self.found = [Unread(f"weir.{name}", ACCEPTED, share) for name, share in shares.items()]
        with capture_logs() as said:
            guard.look()
        return [line["log_level"] for line in said]


def refusal_of(guard: RetentionGuard) -> Problem | None:
    return guard.problem


def share_of(group: str) -> float | None:
    labels = {"group": group, "topic": ACCEPTED}
    return REGISTRY.get_sample_value("weir_retention_share", labels)


@pytest.fixture
def looks() -> Looks:
    return Looks()


@pytest.fixture
def guard(looks: Looks) -> RetentionGuard:
    return RetentionGuard(looks, 30, 0.5, 0.8)


def test_warn_refuse_and_take_again(looks: Looks, guard: RetentionGuard) -> None:
    assert looks.find(guard, dedup=0.0) == []
    assert refusal_of(guard) is None
    assert looks.find(guard, dedup=0.6) == ["warning"]
    assert refusal_of(guard) is None
    assert looks.find(guard, dedup=0.7) == []
    assert share_of("weir.dedup") == 0.7
    assert looks.find(guard, dedup=0.8) == ["error"]
    assert looks.find(guard, dedup=0.9) == []
    problem = refusal_of(guard)
    assert problem is not None
    assert (problem.code, problem.retry_after) == ("backlog", 30)
    assert PROBLEMS[problem.code].status == 503
    assert "weir.dedup" in problem.detail
    assert ACCEPTED in problem.detail
    assert "90%" in problem.detail
    assert looks.find(guard, dedup=0.6) == ["warning"]
    assert refusal_of(guard) is None
    assert looks.find(guard, dedup=0.0) == ["info"]
    assert share_of("weir.dedup") == 0


def test_the_group_that_is_nearest_is_named(looks: Looks, guard: RetentionGuard) -> None:
    assert looks.find(guard, dedup=0.85, sink=0.95, rates=0.6) == ["error", "error", "warning"]
    problem = refusal_of(guard)
    assert problem is not None
    assert problem.detail.startswith("weir.sink ")


def test_a_look_that_fails_changes_nothing_and_is_told_once(
    looks: Looks, guard: RetentionGuard
) -> None:
    looks.find(guard, dedup=0.9)
    refused = refusal_of(guard)
    looks.found = NotReachedError("Kafka does not answer.")
    with capture_logs() as said:
        guard.look()
        guard.look()
    assert [line["log_level"] for line in said] == ["warning"]
    assert refusal_of(guard) is refused is not None
    assert looks.find(guard, dedup=0.9) == []


def test_a_share_of_0_is_off(looks: Looks) -> None:
    guard = RetentionGuard(looks, 30, 0.5, 0)
    assert looks.find(guard, dedup=2.0) == ["warning"]
    assert refusal_of(guard) is None
    never = RetentionGuard(looks, 30, 0, 0)
    looks.found = NotReachedError("would be asked")
    never.start()
    never.stop()
    assert not never._thread.is_alive()
