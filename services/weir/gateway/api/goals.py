"""The goals of a site over HTTP: create, list, delete and count them."""

import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

import msgspec

from weir.core.identifiers import NAMESPACE, SEPARATOR
from weir.core.registry import Goal, GoalType
from weir.gateway.api.goal_counts import GoalBucket, GoalCount, TimeRange
from weir.gateway.http.error_codes import Problem, quoted
from weir.gateway.http.responses import Answer, problem
from weir.gateway.ingest.event_times import EARLIEST_MS
from weir.registry.goal_log import GoalDecision

MAX_GOALS = 100  # per site
MAX_POINTS = 50_000  # per timeseries
MAX_NAME = 255
MAX_VALUE = 2_048
DEFAULT_DAYS = 30
HOUR_MS = 3_600_000
INTERVALS_MS = {"hour": HOUR_MS, "day": 24 * HOUR_MS}
LATEST_MS = 10_413_792_000_000  # ClickHouse's DateTime64 ends with the year 2299
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

_control = re.compile(r"[\x00-\x1f\x7f-\x9f]").search
_encode = msgspec.json.Encoder().encode

T = TypeVar("T")
Query = Mapping[str, Sequence[str]]  # as `parse_qs` returns it


class GoalStore(Protocol):
    """The goals that all gateways share: see `shared_goals.SharedGoals`."""

    def decide(
        self, site_id: str, decide: Callable[[list[Goal]], GoalDecision[T]]
    ) -> Awaitable[T | Problem]:
        """Call `decide` with the site's present goals, the oldest first; return its answer once it is durable.

        `Problem`: it is not known to be durable.
        """


class GoalCounting(Protocol):
    """How often goals were reached: see `counting.GoalCounter`."""

    def stats(
        self, site_id: str, goals: Sequence[Goal], span: TimeRange
    ) -> Awaitable[list[GoalCount] | Problem]: ...

    def timeseries(
        self, site_id: str, goals: Sequence[Goal], span: TimeRange, step_ms: int
    ) -> Awaitable[list[GoalBucket] | Problem]: ...


class SentGoal(msgspec.Struct):
    """A goal as clients send it; unknown members are ignored."""

    name: str
    type: GoalType
    value: str


async def list_goals(site_id: str, store: GoalStore) -> Answer:
    """`GET .../goals`."""
    goals = await _goals_of(site_id, store)
    return problem(goals) if isinstance(goals, Problem) else Answer(200, _encode(goals))


async def create_goal(site_id: str, body: bytes, store: GoalStore, now_ms: int) -> Answer:
    """`POST .../goals`: 201 once the goal is durable; 200 with the existing goal if it was made before."""
    sent = read_goal(body)
    if isinstance(sent, Problem):
        return problem(sent)
    goal = Goal(
        id=goal_id(site_id, sent),
        site_id=site_id,
        name=sent.name,
        type=sent.type,
        value=sent.value,
        created_at=_time(now_ms),
    )
    return _answer_of(await store.decide(site_id, lambda present: _create(goal, present)))


def _create(goal: Goal, present: list[Goal]) -> GoalDecision[Answer]:
    for other in present:
        if other.id == goal.id:
            return GoalDecision(Answer(200, _encode(other)))
    if len(present) >= MAX_GOALS:
        text = f"A site may have at most {MAX_GOALS} goals."
        return GoalDecision(problem(Problem("too_many_goals", text)))
    return GoalDecision(Answer(201, _encode(goal)), made=goal)


async def delete_goal(site_id: str, goal_id: str, store: GoalStore) -> Answer:
    """`DELETE .../goals/{goal_id}`: 204 once it is durably deleted. Its events stay and can be counted again."""
    return _answer_of(await store.decide(site_id, lambda present: _delete(goal_id, present)))


def _delete(goal_id: str, present: list[Goal]) -> GoalDecision[Answer]:
    for goal in present:
        if goal.id == goal_id.lower():
            return GoalDecision(Answer(204, b""), deleted=goal)
    return GoalDecision(problem(_unknown_goal(goal_id)))


async def goal_stats(
    site_id: str, query: Query, store: GoalStore, counting: GoalCounting, now_ms: int
) -> Answer:
    """`GET .../goals/stats?from&to`."""
    span = read_span(query, now_ms)
    if isinstance(span, Problem):
        return problem(span)
    goals = await _goals_of(site_id, store)
    if isinstance(goals, Problem):
        return problem(goals)
    found = await counting.stats(site_id, goals, span)
    if isinstance(found, Problem):
        return problem(found)
    counts = {count.goal_id: count for count in found}
    return Answer(
        200, _encode(_about(site_id, span) | {"goals": [_stats(g, counts[g.id]) for g in goals]})
    )


async def goal_timeseries(
    site_id: str, query: Query, store: GoalStore, counting: GoalCounting, now_ms: int
) -> Answer:
    """`GET .../goals/timeseries?from&to&interval&goal_id`: a point for every hour or day (UTC), also empty ones."""
    span = read_span(query, now_ms)
    if isinstance(span, Problem):
        return problem(span)
    interval = _last(query, "interval") or "day"
    step = INTERVALS_MS.get(interval)
    if step is None:
        return problem(Problem("invalid_query", "`interval` must be hour or day.", "interval"))
    goals = await _goals_of(site_id, store)
    if isinstance(goals, Problem):
        return problem(goals)
    goals = _chosen(goals, query.get("goal_id", ()))
    if isinstance(goals, Problem):
        return problem(goals)
    starts = range(span.since // step * step, span.until, step)
    if len(starts) * len(goals) > MAX_POINTS:
        text = f"The answer would have more than {MAX_POINTS:,} points: request days, a shorter time or one goal."
        return problem(Problem("invalid_query", text, "from"))
    found = await counting.timeseries(site_id, goals, span, step)
    if isinstance(found, Problem):
        return problem(found)
    counts = {(bucket.goal_id, bucket.starts_at): bucket for bucket in found}
    series = [
        {
            "goal_id": goal.id,
            "name": goal.name,
            "points": [_point(start, counts.get((goal.id, start))) for start in starts],
        }
        for goal in goals
    ]
    return Answer(200, _encode(_about(site_id, span) | {"interval": interval, "series": series}))


def read_goal(body: bytes) -> SentGoal | Problem:
    """Return the goal in a body. Its name is trimmed; its value is compared exactly, so it stays as it is."""
    try:
        sent = msgspec.json.decode(body, type=SentGoal)
    except msgspec.ValidationError as fault:
        return Problem(
            "invalid_goal", f"{fault}; a goal must have name, type (event or path) and value."
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        return Problem("invalid_json", f"{fault}.")
    sent.name = sent.name.strip()
    if not 1 <= len(sent.name) <= MAX_NAME or _control(sent.name):
        text = f"`name` must have 1 to {MAX_NAME} characters and no control characters."
        return Problem("invalid_goal", text, "name")
    if not 1 <= len(sent.value) <= MAX_VALUE or _control(sent.value):
        text = f"`value` must have 1 to {MAX_VALUE:,} characters and no control characters."
        return Problem("invalid_goal", text, "value")
    if sent.type == "path" and not sent.value.startswith("/"):
        return Problem("invalid_goal", "A path must start with a slash and have no host.", "value")
    return sent


def goal_id(site_id: str, sent: SentGoal) -> str:
    """Return the same id for the same goal, so that making it twice makes one."""
    return str(uuid.uuid5(NAMESPACE, SEPARATOR.join((site_id, sent.type, sent.value, sent.name))))


def read_span(query: Query, now_ms: int) -> TimeRange | Problem:
    """Return `from` up to `to`; default: the last 30 days until now, or the 30 days before `to`."""
    until = _epoch_ms(query, "to", now_ms)
    if isinstance(until, Problem):
        return until
    default = max(until - DEFAULT_DAYS * INTERVALS_MS["day"], EARLIEST_MS)
    since = _epoch_ms(query, "from", default)
    if isinstance(since, Problem):
        return since
    if since >= until:
        return Problem("invalid_query", "`from` must be before `to`.", "from")
    return TimeRange(since, until)


async def _goals_of(site_id: str, store: GoalStore) -> list[Goal] | Problem:
    return await store.decide(site_id, GoalDecision)


def _answer_of(decided: Answer | Problem) -> Answer:
    return problem(decided) if isinstance(decided, Problem) else decided


def _epoch_ms(query: Query, name: str, default: int) -> int | Problem:
    text = _last(query, name)
    if not text:
        return default
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        detail = f"{quoted(text)} is not a time like 2026-01-31T12:00:00Z (write a + as %2B)."
        return Problem("invalid_query", detail, name)
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    at = (parsed - EPOCH) // MILLISECOND
    if not EARLIEST_MS <= at < LATEST_MS:
        return Problem("invalid_query", f"`{name}` must be a time from 1900 until 2300.", name)
    return at


def _chosen(goals: list[Goal], ids: Sequence[str]) -> list[Goal] | Problem:
    """Return the goals with these ids; all goals if no id is given."""
    by_id = {goal.id: goal for goal in goals}
    for wanted in ids:
        if wanted.lower() not in by_id:
            return _unknown_goal(wanted)
    return [by_id[i] for i in dict.fromkeys(wanted.lower() for wanted in ids)] or goals


def _stats(goal: Goal, count: GoalCount) -> dict[str, object]:
    return {
        "goal_id": goal.id,
        "name": goal.name,
        "type": goal.type,
        "value": goal.value,
        "conversions": count.conversions,
        "converted_visitors": count.converted,
        "visitors": count.visitors,
        "conversion_rate": count.converted / count.visitors if count.visitors else 0.0,
    }


def _point(start: int, bucket: GoalBucket | None) -> dict[str, object]:
    return {
        "time": _time(start),
        "conversions": bucket.conversions if bucket else 0,
        "converted_visitors": bucket.converted if bucket else 0,
    }


def _about(site_id: str, span: TimeRange) -> dict[str, object]:
    return {"site_id": site_id, "from": _time(span.since), "to": _time(span.until)}


def _time(ms: int) -> str:
    at = EPOCH + ms * MILLISECOND
    text = at.isoformat(timespec="milliseconds" if ms % 1_000 else "seconds")
    return text.replace("+00:00", "Z")


def _last(query: Query, name: str) -> str:
    return query.get(name, ("",))[-1]


def _unknown_goal(goal_id: str) -> Problem:
    return Problem("not_found", f"The site has no goal {quoted(goal_id)}.", "goal_id")
