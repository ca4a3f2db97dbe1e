"""A change of goals at one gateway is visible at another gateway on the same broker at once."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from tests.support.running import RunningKafka, ending_well, wait_until
from tests.support.running_gateway import (
    HttpAnswer,
    RunningGateway,
    declare,
    make_topics,
    start_gateway,
)
from weir.adapters.kafka.clients import write_entries
from weir.core import topics
from weir.core.registry import Goal, Source, hash_key
from weir.gateway.api.goals import MAX_GOALS
from weir.registry.follower import goal_entry
from weir.registry.goal_log import GoalDecision, GoalLog, GoalQuestion
from weir.settings.shared import KafkaSettings

ADMIN, WRITE = "admin-key-of-shared-goals", "write-key-of-shared-goals"
SITES = ("listed", "deleted", "repeated", "full", "filled")


@pytest.fixture(scope="module")
def gateways(
    kafka: RunningKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningGateway, RunningGateway]]:
    folder = tmp_path_factory.mktemp("shared-goals")
    make_topics(kafka.bootstrap)
    for site in SITES:
        source = Source(id=site, workspace="acme", admin_key_hashes=(hash_key(ADMIN),))
        declare(kafka.bootstrap, f"{WRITE}-{site}", source)
    with ExitStack() as running:
        one, other = (start_gateway(kafka.bootstrap, folder) for _ in range(2))
        for gateway in (one, other):
            running.enter_context(ending_well(gateway.process))
            wait_until(partial(gateway.knows, f"{WRITE}-{SITES[-1]}"), 20, "the sources")
        yield one, other


def ask(gateway: RunningGateway, method: str, site: str, rest: str = "", **goal: Any) -> HttpAnswer:
    body = json.dumps({"type": "event", **goal}).encode() if goal else None
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
    return gateway.ask(method, f"/api/sites/{site}/goals{rest}", body, headers)


def ask_until_answered(gateway: RunningGateway, method: str, site: str, **goal: Any) -> HttpAnswer:
    """As `ask`, and again after a 503, as a client would: a busy machine may take its time."""
    while (answer := ask(gateway, method, site, **goal)).status == 503:
        pass
    return answer


def names(gateway: RunningGateway, site: str) -> list[str]:
    answer = ask(gateway, "GET", site)
    assert answer.status == 200, answer.body
    return [goal["name"] for goal in answer.json()]


def test_a_created_goal_is_listed_by_the_other_gateway_at_once(
    gateways: tuple[RunningGateway, RunningGateway],
) -> None:
    one, other = gateways
    made = []
    for number in range(10):
        at, beside = (one, other) if number % 2 else (other, one)
        made.append(f"goal {number}")
        assert ask(at, "POST", "listed", name=made[-1], value="x").status == 201
        assert sorted(names(beside, "listed")) == sorted(made)


def test_a_goal_deleted_right_after_creation_stays_deleted_at_both_gateways(
    gateways: tuple[RunningGateway, RunningGateway],
) -> None:
    one, other = gateways
    for _ in range(5):
        goal = ask(one, "POST", "deleted", name="n", value="x").json()
        assert ask(other, "DELETE", "deleted", f"/{goal['id']}").status == 204
        assert names(one, "deleted") == names(other, "deleted") == []
        assert ask(one, "DELETE", "deleted", f"/{goal['id']}").status == 404


def test_a_goal_created_concurrently_at_both_gateways_exists_once(
    gateways: tuple[RunningGateway, RunningGateway],
) -> None:
    with ThreadPoolExecutor(10) as threads:
        answers = list(
            threads.map(
                lambda n: ask_until_answered(
                    gateways[n % 2], "POST", "repeated", name="n", value="x"
                ),
                range(10),
            )
        )
    assert sorted(answer.status for answer in answers) == [200] * 9 + [201]
    assert len({answer.body for answer in answers}) == 1


def test_concurrent_creations_never_exceed_the_maximum_number_of_goals(
    gateways: tuple[RunningGateway, RunningGateway],
) -> None:
    count = MAX_GOALS + 20
    with ThreadPoolExecutor(count) as threads:
        answers = list(
            threads.map(
                lambda n: ask_until_answered(
                    gateways[n % 2], "POST", "full", name=f"n{n}", value="x"
                ),
                range(count),
            )
        )
    refused = [answer.json() for answer in answers if answer.status != 201]
    assert [(p["status"], p["code"]) for p in refused] == [(422, "too_many_goals")] * 20
    made = {answer.json()["name"] for answer in answers if answer.status == 201}
    for gateway in gateways:
        assert len(names(gateway, "full")) == MAX_GOALS
        assert set(names(gateway, "full")) == made


def goal(number: int) -> Goal:
    return Goal(
        id=str(number),
        site_id="filled",
        name=f"goal {number}",
        type="event",
        value="x",
        created_at=f"2026-01-01T00:{number:02}:00Z",
    )


def test_a_goal_decision_is_repeated_when_another_writer_commits_first(
    kafka: RunningKafka, gateways: tuple[RunningGateway, RunningGateway]
) -> None:
    """Another log writes between decision and transaction, three times in a row."""
    settings = KafkaSettings(kafka_bootstrap=kafka.bootstrap)
    log, other = GoalLog(settings), GoalLog(settings)
    seen: list[list[Goal]] = []

    def make(present: list[Goal]) -> GoalDecision[list[Goal]]:
        if len(seen) < 3:
            beside = goal(len(seen) + 1)
            other.decide([GoalQuestion("filled", lambda _: GoalDecision(None, made=beside))])
        seen.append(present)
        return GoalDecision(present, made=goal(0))

    (answer,) = log.decide([GoalQuestion("filled", make)])
    assert answer == [goal(1), goal(2), goal(3)]
    (present,) = other.decide([GoalQuestion("filled", GoalDecision)])
    assert present == [goal(n) for n in range(4)]


def test_goals_written_without_a_transaction_are_listed(
    kafka: RunningKafka, gateways: tuple[RunningGateway, RunningGateway]
) -> None:
    settings = KafkaSettings(kafka_bootstrap=kafka.bootstrap)
    before = names(gateways[0], "filled")
    write_entries(settings, topics.REGISTRY, [goal_entry(goal(9))])
    assert names(gateways[0], "filled") == [*before, "goal 9"]
