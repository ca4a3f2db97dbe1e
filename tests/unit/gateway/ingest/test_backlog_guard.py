"""The guard refuses events when lag nears retention, logs changes once and survives failed checks."""

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from weir.adapters.errors import UnavailableError
from weir.core.retention import ALL, RetentionPolicy, RetentionUse
from weir.gateway.http.error_codes import PROBLEMS, Problem
from weir.gateway.ingest.backlog_guard import FIRST_SECONDS, NOT_KNOWN, RetentionGuard
from weir.gateway.metrics import NAMED_SOURCES, OTHERS, RefusedSources

ACCEPTED = "events.accepted"


class Looks:
    """Each look finds what was put here last; a fault is raised."""

    def __init__(self) -> None:
        self.found: list[RetentionUse] | Exception = []

    def __call__(self) -> list[RetentionUse]:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def find(self, guard: RetentionGuard, **shares: float) -> list[str]:
        """One look that finds these shares, and the levels of what was logged."""
        self.found = [
            RetentionUse(f"weir.{name}", ACCEPTED, share) for name, share in shares.items()
        ]
        with capture_logs() as said:
            guard.check()
        return [line["log_level"] for line in said]


def refusal_of(guard: RetentionGuard) -> Problem | None:
    return guard.problem("shop")


def refused_in_metrics(source: str) -> float | None:
    return REGISTRY.get_sample_value("weir_retention_refused", {"source": source})


def share_of(group: str) -> float | None:
    labels = {"group": group, "topic": ACCEPTED}
    return REGISTRY.get_sample_value("weir_retention_share", labels)


@pytest.fixture
def looks() -> Looks:
    return Looks()


@pytest.fixture
def guard(looks: Looks) -> RetentionGuard:
    return RetentionGuard(looks, 30, RetentionPolicy(0.5, 0.8))


def test_the_guard_warns_then_refuses_and_accepts_again_as_the_backlog_changes(
    looks: Looks, guard: RetentionGuard
) -> None:
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


def test_the_refusal_names_the_consumer_group_nearest_to_losing_records(
    looks: Looks, guard: RetentionGuard
) -> None:
    assert looks.find(guard, dedup=0.85, sink=0.95, rates=0.6) == ["error", "error", "warning"]
    problem = refusal_of(guard)
    assert problem is not None
    assert problem.detail.startswith("weir.sink ")


def test_a_failed_check_keeps_the_decision_and_is_logged_once(
    looks: Looks, guard: RetentionGuard
) -> None:
    looks.find(guard, dedup=0.9)
    refused = refusal_of(guard)
    looks.found = UnavailableError("Kafka does not answer.")
    with capture_logs() as said:
        guard.check()
        guard.check()
    assert [line["log_level"] for line in said] == ["warning"]
    assert refusal_of(guard) is refused is not None
    assert looks.find(guard, dedup=0.9) == []


def test_a_share_of_0_disables_the_guard(looks: Looks) -> None:
    guard = RetentionGuard(looks, 30, RetentionPolicy(0.5, 0))
    assert refusal_of(guard) is None  # nothing is waited for
    assert looks.find(guard, dedup=2.0) == ["warning"]
    assert refusal_of(guard) is None
    never = RetentionGuard(looks, 30, RetentionPolicy(0, 0))
    looks.found = UnavailableError("would be asked")
    never.start()
    never.stop()
    assert not never._thread.is_alive()


def test_only_the_flooding_source_is_refused_until_the_backlog_grows_further(
    looks: Looks, guard: RetentionGuard
) -> None:
    def find(share: float, *sources: str) -> list[str]:
        looks.found = [RetentionUse("weir.dedup", ACCEPTED, share, sources)]
        with capture_logs() as said:
            guard.check()
        return [line["sources"] for line in said if line["log_level"] == "error"]

    assert find(0.82, "flood") == ["flood"]
    problem = guard.problem("flood")
    assert problem is not None
    assert "from this source" in problem.detail
    assert guard.problem("shop") is None
    assert (refused_in_metrics("flood"), refused_in_metrics(ALL)) == (1, 0)
    assert find(0.83, "flood") == []  # nothing new
    assert find(0.84, "flood", "shop") == ["flood,shop"]
    assert guard.problem("shop") is not None
    assert find(0.91, "flood") == [ALL]
    assert guard.problem("anybody") is not None
    assert (refused_in_metrics("flood"), refused_in_metrics(ALL)) == (0, 1)
    assert find(0.2, "flood") == []
    assert guard.problem("flood") is None
    assert refused_in_metrics(ALL) == 0


def test_the_refusal_names_the_group_with_the_highest_share_for_that_source(
    looks: Looks, guard: RetentionGuard
) -> None:
    looks.found = [
        RetentionUse("weir.dedup", ACCEPTED, 0.87, ("shop", "flood")),
        RetentionUse("weir.sink", ACCEPTED, 0.82, ("shop", "blog")),
    ]
    guard.check()
    for source, group in (("shop", "weir.dedup"), ("blog", "weir.sink")):
        problem = guard.problem(source)
        assert problem is not None
        assert problem.detail.startswith(f"{group} ")


def test_the_refused_sources_metric_has_a_bounded_number_of_labels() -> None:
    shown = RefusedSources()
    shown.show([f"source-{n:03}" for n in range(NAMED_SOURCES + 5)])
    assert refused_in_metrics("source-000") == 1
    assert refused_in_metrics(f"source-{NAMED_SOURCES:03}") is None
    assert refused_in_metrics(OTHERS) == 5
    shown.show([])
    assert refused_in_metrics("source-000") == refused_in_metrics(OTHERS) == 0


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_events_are_refused_before_the_first_check_for_a_limited_time_only(looks: Looks) -> None:
    clock = Clock()
    guard = RetentionGuard(looks, 30, RetentionPolicy(0.5, 0.8), clock)
    looks.found = UnavailableError("Kafka does not answer.")
    guard.check()
    clock.now += 1_000  # the brokers were away, and nobody asked
    assert guard.is_waiting()
    assert refusal_of(guard) is NOT_KNOWN
    clock.now += FIRST_SECONDS - 1
    assert refusal_of(guard) is NOT_KNOWN
    clock.now += 1
    assert refusal_of(guard) is None
    assert not guard.is_waiting()
    assert looks.find(guard, dedup=0.95) == ["error"]
    assert refusal_of(guard) is not None


def test_the_first_successful_check_ends_the_waiting(looks: Looks, guard: RetentionGuard) -> None:
    assert guard.is_waiting()
    assert looks.find(guard, dedup=0.6) == ["warning"]
    assert not guard.is_waiting()
    assert refusal_of(guard) is None
