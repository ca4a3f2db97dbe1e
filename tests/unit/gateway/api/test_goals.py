"""The goals API by plain values: what is a goal, what is a time, and what is answered."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
import pytest

from tests.events import NOON
from tests.goals import GoalsInMemory
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


def test_a_goal_is_made_and_listed_in_the_documents_shape() -> None:
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


def test_made_twice_it_is_one() -> None:
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
def test_what_is_not_a_goal_is_refused(body: bytes, code: str) -> None:
    store = Memory()
    answer = create(store, body)
    assert decoded(answer)["code"] == code
    assert store.of("shop") == []


def test_further_fields_are_left_alone() -> None:
    sent = b'{"id":"","site_id":"other","name":"n","type":"event","value":"v","created_at":""}'
    assert decoded(create(Memory(), sent))["site_id"] == "shop"


def test_a_site_has_at_most_so_many() -> None:
    store = Memory()
    for number in range(goals.MAX_GOALS):
        body = b'{"name":"n","type":"event","value":"%d"}' % number
        assert create(store, body).status == 201
    assert decoded(create(store, SIGNUP))["code"] == "too_many_goals"
    assert create(store, b'{"name":"n","type":"event","value":"0"}').status == 200


def test_what_is_not_durable_is_not_said_to_be() -> None:
    assert create(Memory(durable=False), SIGNUP).status == 503
    store = Memory()
    goal = decoded(create(store, SIGNUP))["id"]
    store.log.durable = False
    assert asyncio.run(goals.delete_goal("shop", goal, store)).status == 503


def test_a_goal_is_deleted_at_its_own_site_only() -> None:
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


def test_who_waits_for_the_brokers_is_answered_together_and_never_beyond_the_cap() -> None:
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


def test_a_fault_of_the_program_fails_its_request_and_no_later_one() -> None:
    store = Memory()

    def fail(present: list[Goal]) -> GoalDecision[Answer]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(store.decide("shop", fail))
    assert create(store, SIGNUP).status == 201


# --- counting


def test_stats_say_how_many_of_all_visitors() -> None:
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


def test_without_a_time_it_is_the_last_thirty_days() -> None:
    counts = Fixed()
    stats(Memory(), "", counts)
    stats(Memory(), "to=2026-01-31", counts)
    assert counts.spans[0] == (NOON - 30 * 24 * HOUR, NOON)
    assert counts.spans[1].until - counts.spans[1].since == 30 * 24 * HOUR


def test_a_timeseries_has_every_bucket() -> None:
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


def test_a_timeseries_of_chosen_goals() -> None:
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
def test_a_query_that_cannot_be_answered_is_refused(query: str, field: str) -> None:
    store = Memory()
    create(store, SIGNUP)
    answer = decoded(timeseries(store, query, Fixed()))
    assert (answer["status"], answer["code"], answer["field"]) == (400, "invalid_query", field)


def test_no_clickhouse_is_503() -> None:
    answer = stats(Memory(), "", Away())
    assert (answer.status, decoded(answer)["code"]) == (503, "not_counted")
    assert b"Retry-After" in answer.headers
    assert timeseries(Memory(), "", Away()).status == 503


def test_no_more_than_so_many_questions_wait() -> None:
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
