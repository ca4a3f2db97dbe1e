"""The goals API validates goals and query times and returns goals, stats and time series."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
import pytest

from tests.support.events import NOON
from tests.support.goals import GoalsInMemory
from weir.adapters.clickhouse.query import ClickHouseUnreachableError
from weir.core.registry import Goal
from weir.gateway.api import goals
from weir.gateway.api.counting import WAITING, GoalCounter
from weir.gateway.api.goal_counts import GoalBucket, GoalCount, TimeRange
from weir.gateway.api.shared_goals import WAITING as GOALS_WAITING
from weir.gateway.api.shared_goals import SharedGoals
from weir.gateway.http.error_codes import Problem
from weir.gateway.http.responses import Answer
from weir.registry.goal_log import GoalDecision, GoalQuestion

SIGNUP = b'{"name":"Pro Signup","type":"event","value":"signup"}'
THANKS = b'{"name":"Thanks","type":"path","value":"/thanks"}'
HOUR = 3_600_000

T = TypeVar("T")


class Memory:
    """A `GoalStore` whose brokers answer, or do not."""

    def __init__(self, durable: bool = True) -> None:
        self.log = GoalsInMemory(durable)
        self._shared = SharedGoals(self.log)

    async def decide(
        self, site_id: str, decide: Callable[[list[Goal]], GoalDecision[T]]
    ) -> T | Problem:
        return await self._shared.decide(site_id, decide)

    def of(self, site_id: str) -> list[Goal]:
        return self.log.goals.of(site_id)


class Fixed:
    """Counts that are known: each goal three times by two of four people, in the second hour."""

    def __init__(self) -> None:
        self.spans: list[TimeRange] = []

    def stats(self, site_id: str, asked: Sequence[Goal], span: TimeRange) -> list[GoalCount]:
        self.spans.append(span)
        return [GoalCount(goal.id, 3, 2, 4) for goal in asked]

    def timeseries(
        self, site_id: str, asked: Sequence[Goal], span: TimeRange, step_ms: int
    ) -> list[GoalBucket]:
        self.spans.append(span)
        start = (span.since + HOUR) // step_ms * step_ms
        return [GoalBucket(goal.id, start, 3, 2) for goal in asked]


class Away:
    """ClickHouse is not there."""

    def stats(self, site_id: str, asked: Sequence[Goal], span: TimeRange) -> list[GoalCount]:
        raise ClickHouseUnreachableError("nobody answers")

    def timeseries(
        self, site_id: str, asked: Sequence[Goal], span: TimeRange, step_ms: int
    ) -> list[GoalBucket]:
        raise ClickHouseUnreachableError("nobody answers")


def create(store: Memory, body: bytes, site: str = "shop") -> Answer:
    return asyncio.run(goals.create_goal(site, body, store, NOON))


def stats(store: Memory, query: str, counts: Any) -> Answer:
    async def ask() -> Answer:
        return await goals.goal_stats("shop", parse_qs(query), store, GoalCounter(counts), NOON)

    return asyncio.run(ask())


def timeseries(store: Memory, query: str, counts: Any) -> Answer:
    async def ask() -> Answer:
        return await goals.goal_timeseries(
            "shop", parse_qs(query), store, GoalCounter(counts), NOON
        )

    return asyncio.run(ask())


def decoded(answer: Answer) -> Any:
    return msgspec.json.decode(answer.body)


# --- making, listing, deleting


def test_a_goal_is_created_and_listed_in_the_documented_shape() -> None:
    store = Memory()
    made = create(store, SIGNUP)
    assert made.status == 201
    assert decoded(made) == {
        "id": decoded(made)["id"],
        "site_id": "shop",
        "name": "Pro Signup",
        "type": "event",
        "value": "signup",
        "created_at": "2025-10-09T12:00:00Z",
    }
    assert decoded(asyncio.run(goals.list_goals("shop", store))) == [decoded(made)]
    assert decoded(asyncio.run(goals.list_goals("blog", store))) == []


def test_creating_the_same_goal_twice_returns_the_existing_goal() -> None:
    store = Memory()
    first, again = create(store, SIGNUP), create(store, SIGNUP)
    assert (again.status, decoded(again)) == (200, decoded(first))
    assert decoded(create(store, SIGNUP, "blog"))["id"] != decoded(first)["id"]
    assert decoded(create(store, THANKS))["id"] != decoded(first)["id"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"nonsense", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b"[]", "invalid_goal"),
        (b'{"name":"n","value":"v"}', "invalid_goal"),
        (b'{"name":"n","type":"page","value":"v"}', "invalid_goal"),
        (b'{"name":" ","type":"event","value":"v"}', "invalid_goal"),
        (b'{"name":"n","type":"event","value":""}', "invalid_goal"),
        (b'{"name":"n","type":"event","value":1}', "invalid_goal"),
        (b'{"name":"n\\u0000","type":"event","value":"v"}', "invalid_goal"),
        (b'{"name":"n","type":"path","value":"https://shop.example/x"}', "invalid_goal"),
        (b'{"name":"n","type":"path","value":"/%b"}' % (b"x" * 2_048), "invalid_goal"),
    ],
)
def test_an_invalid_goal_is_rejected_and_not_stored(body: bytes, code: str) -> None:
    store = Memory()
    answer = create(store, body)
    assert decoded(answer)["code"] == code
    assert store.of("shop") == []


def test_unknown_and_server_set_fields_of_a_goal_are_ignored() -> None:
    sent = b'{"id":"","site_id":"other","name":"n","type":"event","value":"v","created_at":""}'
    assert decoded(create(Memory(), sent))["site_id"] == "shop"


def test_a_site_has_at_most_max_goals() -> None:
    store = Memory()
    for number in range(goals.MAX_GOALS):
        body = b'{"name":"n","type":"event","value":"%d"}' % number
        assert create(store, body).status == 201
    assert decoded(create(store, SIGNUP))["code"] == "too_many_goals"
    assert create(store, b'{"name":"n","type":"event","value":"0"}').status == 200


def test_goal_changes_return_503_when_the_log_is_not_durable() -> None:
    assert create(Memory(durable=False), SIGNUP).status == 503
    store = Memory()
    goal = decoded(create(store, SIGNUP))["id"]
    store.log.durable = False
    assert asyncio.run(goals.delete_goal("shop", goal, store)).status == 503


def test_a_goal_can_be_deleted_only_through_its_own_site() -> None:
    store = Memory()
    goal = decoded(create(store, SIGNUP))["id"]
    assert asyncio.run(goals.delete_goal("blog", goal, store)).status == 404
    assert asyncio.run(goals.delete_goal("shop", goal.upper(), store)).status == 204
    assert asyncio.run(goals.delete_goal("shop", goal, store)).status == 404


class Slow(GoalsInMemory):
    """Brokers that answer when they are let. `asked`: how many questions came at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []
        self.may_answer = threading.Event()

    def decide(self, questions: Sequence[GoalQuestion]) -> list[Any]:
        self.asked.append(len(questions))
        self.may_answer.wait(10)
        return super().decide(questions)


def test_concurrent_goal_requests_are_decided_together_and_refused_beyond_the_cap() -> None:
    log = Slow()
    store = SharedGoals(log)
    bodies = [b'{"name":"n","type":"event","value":"%d"}' % n for n in range(GOALS_WAITING + 1)]

    async def make_all() -> list[Answer]:
        tasks = [
            asyncio.create_task(goals.create_goal("shop", body, store, NOON)) for body in bodies
        ]
        await tasks[-1]  # one too many: refused while all others wait
        log.may_answer.set()
        return await asyncio.gather(*tasks)

    answers = asyncio.run(make_all())
    refused = [decoded(answer)["code"] for answer in answers if answer.status != 201]
    assert refused == ["too_many_goals"] * (GOALS_WAITING - goals.MAX_GOALS) + ["overloaded"]
    assert len(log.goals.of("shop")) == goals.MAX_GOALS
    assert len(log.asked) <= 2


def test_an_exception_fails_its_own_goal_request_and_no_later_one() -> None:
    store = Memory()

    def fail(present: list[Goal]) -> GoalDecision[Answer]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(store.decide("shop", fail))
    assert create(store, SIGNUP).status == 201


# --- counting


def test_goal_stats_include_conversions_visitors_and_conversion_rate() -> None:
    store, counts = Memory(), Fixed()
    create(store, SIGNUP)
    answer = stats(store, "from=2026-01-01&to=2026-01-02T12:00:00%2B02:00", counts)
    assert decoded(answer)["goals"] == [
        {
            "goal_id": store.of("shop")[0].id,
            "name": "Pro Signup",
            "type": "event",
            "value": "signup",
            "conversions": 3,
            "converted_visitors": 2,
            "visitors": 4,
            "conversion_rate": 0.5,
        }
    ]
    span = (decoded(answer)["from"], decoded(answer)["to"])
    assert span == ("2026-01-01T00:00:00Z", "2026-01-02T10:00:00Z")


def test_goal_stats_cover_the_last_30_days_by_default() -> None:
    counts = Fixed()
    stats(Memory(), "", counts)
    stats(Memory(), "to=2026-01-31", counts)
    assert counts.spans[0] == (NOON - 30 * 24 * HOUR, NOON)
    assert counts.spans[1].until - counts.spans[1].since == 30 * 24 * HOUR


def test_a_timeseries_includes_empty_buckets() -> None:
    store = Memory()
    create(store, SIGNUP)
    query = "from=2026-01-01T00:30:00Z&to=2026-01-01T03:00:00Z&interval=hour"
    answer = decoded(timeseries(store, query, Fixed()))
    (series,) = answer["series"]
    assert answer["interval"] == "hour"
    assert [(p["time"], p["conversions"], p["converted_visitors"]) for p in series["points"]] == [
        ("2026-01-01T00:00:00Z", 0, 0),
        ("2026-01-01T01:00:00Z", 3, 2),
        ("2026-01-01T02:00:00Z", 0, 0),
    ]


def test_a_timeseries_contains_only_the_requested_goals() -> None:
    store = Memory()
    chosen, other = decoded(create(store, SIGNUP))["id"], decoded(create(store, THANKS))["id"]
    answer = decoded(timeseries(store, f"goal_id={chosen}", Fixed()))
    assert [series["goal_id"] for series in answer["series"]] == [chosen]
    both = decoded(timeseries(store, f"goal_id={other}&goal_id={chosen}&goal_id={other}", Fixed()))
    assert [series["goal_id"] for series in both["series"]] == [other, chosen]
    assert timeseries(store, "goal_id=nonsense", Fixed()).status == 404


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("from=0001-01-01", "from"),
        ("to=9999-12-31T23:59:59-23:59", "to"),
        ("from=2026-01-02&to=2026-01-02", "from"),
        ("interval=week", "interval"),
        ("from=1900-01-01&to=2299-01-01&interval=hour", "from"),
    ],
)
def test_a_timeseries_query_with_invalid_times_or_interval_is_rejected(
    query: str, field: str
) -> None:
    store = Memory()
    create(store, SIGNUP)
    answer = decoded(timeseries(store, query, Fixed()))
    assert (answer["status"], answer["code"], answer["field"]) == (400, "invalid_query", field)


def test_goal_queries_return_503_when_clickhouse_is_unreachable() -> None:
    answer = stats(Memory(), "", Away())
    assert (answer.status, decoded(answer)["code"]) == (503, "not_counted")
    assert b"Retry-After" in answer.headers
    assert timeseries(Memory(), "", Away()).status == 503


def test_goal_queries_beyond_the_waiting_cap_are_refused_as_overloaded() -> None:
    gate = threading.Event()

    class Slow(Fixed):
        def stats(self, site_id: str, asked: Sequence[Goal], span: TimeRange) -> list[GoalCount]:
            gate.wait()
            return super().stats(site_id, asked, span)

    async def ask() -> tuple[Any, list[Any], Any]:
        counting = GoalCounter(Slow())
        span = TimeRange(0, 1)
        asked = [asyncio.create_task(counting.stats("shop", [], span)) for _ in range(WAITING)]
        await asyncio.sleep(0)  # each has been handed over
        refused = await counting.stats("shop", [], span)
        gate.set()
        answered = await asyncio.gather(*asked)
        return refused, answered, await counting.stats("shop", [], span)

    refused, answered, again = asyncio.run(ask())
    assert isinstance(refused, Problem)
    assert refused.code == "overloaded"
    assert answered == [[]] * WAITING
    assert again == []
