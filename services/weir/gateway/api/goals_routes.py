"""The pages of a site's API at `/api/sites/{site_id}/...`: they check the key and call the handlers of goals."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs

from weir.gateway.api import goals
from weir.gateway.api.api_keys import api_key_of, refuse_access
from weir.gateway.api.goals import GoalCounting, GoalStore
from weir.gateway.api.goals_openapi import deletion, making, reading
from weir.gateway.http.body_reader import ReadBody
from weir.gateway.http.problems import unavailable
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer, problem
from weir.gateway.registry_copy import Registry


@dataclass(frozen=True)
class SiteRequest:
    """An authorized request, and the services that answer it."""

    site_id: str
    goal_id: str  # from the path or the query; empty: none
    query: dict[str, list[str]]
    read: ReadBody
    now_ms: int
    store: GoalStore
    counting: GoalCounting


class SitePagesContext(Protocol):
    """What these pages need of the gateway."""

    @property
    def registry(self) -> Registry: ...

    @property
    def goals(self) -> GoalStore: ...

    @property
    def counting(self) -> GoalCounting: ...


@dataclass(frozen=True)
class SitePage:
    """A page for admin keys of the site; also for its read keys unless `administers`."""

    name: str
    administers: bool
    operation: dict[str, Any]
    call: Callable[[SiteRequest], Awaitable[Answer]]

    async def answer(self, asked: RequestMeta, read: ReadBody, app: SitePagesContext) -> Answer:
        if not app.registry.loaded:
            return problem(unavailable("The registry is not loaded yet."))
        site_id = asked.parts["site_id"]
        key = api_key_of(asked.headers, asked.query)
        sources = [view.source for view in app.registry.by_id.values()]
        if refused := refuse_access(key, site_id, self.administers, sources):
            ask = b"WWW-Authenticate: Bearer\r\n" if refused.code == "unauthorized" else b""
            return problem(app.registry.explained(key, refused), ask)
        query = parse_qs(asked.query)
        goal_id = asked.parts.get("goal_id") or query.get("goal_id", [""])[-1]
        visit = SiteRequest(site_id, goal_id, query, read, asked.now_ms, app.goals, app.counting)
        return await self.call(visit)


async def _list(visit: SiteRequest) -> Answer:
    return await goals.list_goals(visit.site_id, visit.store)


async def _create(visit: SiteRequest) -> Answer:
    body, trouble = await visit.read()
    if trouble is not None:
        return problem(trouble)
    return await goals.create_goal(visit.site_id, body, visit.store, visit.now_ms)


async def _delete(visit: SiteRequest) -> Answer:
    return await goals.delete_goal(visit.site_id, visit.goal_id, visit.store)


async def _stats(visit: SiteRequest) -> Answer:
    return await goals.goal_stats(
        visit.site_id, visit.query, visit.store, visit.counting, visit.now_ms
    )


async def _timeseries(visit: SiteRequest) -> Answer:
    return await goals.goal_timeseries(
        visit.site_id, visit.query, visit.store, visit.counting, visit.now_ms
    )


LIST = SitePage("goals", False, reading("List the goals of a site, oldest first."), _list)
CREATE = SitePage(
    "goals", True, making("Create a goal. Creating the same goal twice creates one goal."), _create
)
DELETE = SitePage(
    "goals", True, deletion("Delete a goal. The events that it counted stay."), _delete
)
STATS = SitePage(
    "goal_stats",
    False,
    reading("How often each goal was reached, and by how many of all visitors.", "from", "to"),
    _stats,
)
TIMESERIES = SitePage(
    "goal_timeseries",
    False,
    reading(
        "How often each goal was reached, by hour or day.", "from", "to", "interval", "goal_id"
    ),
    _timeseries,
)
