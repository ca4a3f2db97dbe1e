"""The routes of the gateway. A new door is a folder in `doors/` and a line here; see docs/doors.md."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from weir.gateway.api import erasures, event_status, goals_routes
from weir.gateway.app_context import AppContext
from weir.gateway.doors.cloudevents import door as cloudevents
from weir.gateway.doors.door import Door
from weir.gateway.doors.events import door as events
from weir.gateway.doors.hackle import door as hackle
from weir.gateway.doors.hackle import workspace as hackle_pages
from weir.gateway.doors.hitkeep import door as hitkeep
from weir.gateway.doors.hitkeep import server, views
from weir.gateway.doors.segment import door as segment
from weir.gateway.doors.suprsend import door as suprsend
from weir.gateway.doors.tracardi import door as tracardi
from weir.gateway.doors.userflux import door as userflux
from weir.gateway.doors.webhook import door as webhook
from weir.gateway.http import request_headers
from weir.gateway.http.body_reader import ReadBody
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer


class ApiPage(Protocol):
    """The handler of a route that takes no events: reads, and changes such as goals and erasures."""

    @property
    def name(self) -> str: ...

    @property
    def operation(self) -> dict[str, Any]: ...  # for OpenAPI

    def answer(self, asked: RequestMeta, read: ReadBody, app: AppContext) -> Awaitable[Answer]:
        """Answer a request. A page that wants the body reads it, after it has checked the key."""


class Route(NamedTuple):
    """A method and path. `{name}` matches anything but a slash; a slash at the end makes no difference."""

    method: str
    path: str
    at: Door | ApiPage


ROUTES = (
    Route("POST", "/v1/events", events.DOOR),
    Route("GET", "/v1/events/{id}", event_status.PAGE),
    Route("DELETE", "/v1/profiles/{id}", erasures.FORGET),
    Route("GET", "/v1/erasures/{id}", erasures.ERASURE),
    Route("POST", "/collect/{event_type}/{source_id}", webhook.DOOR),
    Route("GET", "/collect/{event_type}/{source_id}", webhook.BY_QUERY),
    Route("POST", "/track", tracardi.DOOR),
    Route("POST", "/ingest", views.DOOR),
    Route("POST", "/ingest/event", hitkeep.DOOR),
    Route("POST", "/api/ingest/server/event", server.EVENT),
    Route("POST", "/api/ingest/server/pageview", server.VIEW),
    Route("POST", "/v2/event", suprsend.DOOR),
    Route("POST", "/v2/bulk/event", suprsend.BULK),
    Route("POST", "/api/v2/events", hackle.DOOR),
    Route("POST", "/event/ingest", userflux.EVENT),
    Route("POST", "/event/ingest/batch", userflux.BATCH),
    Route("POST", "/profile", userflux.PROFILE),
    *(Route("POST", f"/v1/{path}", door) for path, door in segment.DOORS.items()),
    Route("POST", "/v1/cloudevents", cloudevents.DOOR),
    Route("GET", "/api/v2/workspaces/{sdk_key}/config", hackle_pages.WORKSPACE_PAGE),
    Route("POST", "/metrics", hackle_pages.MONITORING_PAGE),  # GET is for Prometheus
    Route("GET", "/api/sites/{site_id}/goals", goals_routes.LIST),
    Route("POST", "/api/sites/{site_id}/goals", goals_routes.CREATE),
    Route("DELETE", "/api/sites/{site_id}/goals", goals_routes.DELETE),  # ?goal_id=
    Route("GET", "/api/sites/{site_id}/goals/stats", goals_routes.STATS),
    Route("GET", "/api/sites/{site_id}/goals/timeseries", goals_routes.TIMESERIES),
    Route("DELETE", "/api/sites/{site_id}/goals/{goal_id}", goals_routes.DELETE),
)

# By the name in the column `door`. Of the doors of one product the first one parses rejected payloads again.
DOORS: dict[str, Door] = {}
for _route in ROUTES:
    if isinstance(_route.at, Door):
        DOORS.setdefault(_route.at.name, _route.at)
# the doors that can parse a rejected payload without its request
DOORS_FOR_REPLAY = sorted(
    name for name, door in DOORS.items() if type(door).parse_again is not Door.parse_again
)


class RouteMatch(NamedTuple):
    """The doors or pages at a path by method, and the path's parts by the {name} in the route."""

    path: str  # as in ROUTES
    methods: Mapping[str, Door | ApiPage]
    parts: Mapping[str, str]


class Router:
    """The lookup of routes by path: first those without {name}, then the others in the table's order."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.paths: dict[str, dict[str, Door | ApiPage]] = {}
        for route in routes:
            self.paths.setdefault(route.path, {})[route.method] = route.at
        self._plain = {
            path: RouteMatch(path, methods, {})
            for path, methods in self.paths.items()
            if "{" not in path
        }
        self._patterns = [path.split("/") for path in self.paths if "{" in path]

    def find(self, path: str) -> RouteMatch | None:
        found = self._plain.get(path)
        if found is not None:
            return found
        if len(path) > 1 and path.endswith("/"):
            path = path[:-1]
            if (found := self._plain.get(path)) is not None:
                return found
        given = path.split("/")
        for pattern in self._patterns:
            parts = _match(pattern, given)
            if parts is not None:
                named = "/".join(pattern)
                return RouteMatch(named, self.paths[named], parts)
        return None


def _match(pattern: list[str], given: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(given):
        return None
    parts = {}
    for wanted, part in zip(pattern, given, strict=True):
        if wanted.startswith("{"):
            parts[wanted[1:-1]] = request_headers.path_part(part)
        elif wanted != part:
            return None
    return parts
