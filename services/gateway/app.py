"""The gateway's routes over aiohttp's low-level server: no middlewares, nothing between socket and door."""

from collections.abc import Callable

import msgspec
from aiohttp import hdrs, web
from aiohttp.web_request import BaseRequest
from prometheus_client import CONTENT_TYPE_LATEST

from services.gateway import asking, metrics
from services.gateway.doors import events, webhook
from services.gateway.http import TEXT, Answer, Reply, problem
from services.gateway.openapi import DOCUMENT
from services.gateway.posting import Posting, World, cors, unavailable
from services.gateway.refusals import Problem

EVENTS = "/v1/events"
COLLECT = "/collect/"
# What the server answers: the OpenAPI document is held against it.
ROUTES = {
    EVENTS: ("POST", "OPTIONS"),
    "/collect/{event_type}/{source_id}": ("POST", "OPTIONS"),
    "/livez": ("GET",),
    "/readyz": ("GET",),
    "/metrics": ("GET",),
    "/openapi.json": ("GET",),
}
PREFLIGHT = (
    b"Access-Control-Allow-Methods: POST\r\n"
    b"Access-Control-Allow-Headers: authorization, content-type, content-encoding, x-weir-key,"
    b" idempotency-key\r\n"
    b"Access-Control-Max-Age: 7200\r\n"
)
_OPENAPI = msgspec.json.encode(DOCUMENT)
_METRICS_KIND = CONTENT_TYPE_LATEST.encode()
Get = Callable[[], Answer]


class App:
    """Answers every request with a `Reply`; never with a traceback."""

    def __init__(self, world: World) -> None:
        self.draining = False
        self._world = world
        self._counts = world.counts
        self._posting = Posting(world)
        self._seconds = world.settings.gateway_body_seconds
        self._gets: dict[str, Get] = {
            "/livez": lambda: Answer(200, b"live\n", TEXT),
            "/readyz": self._readiness,
            "/metrics": self._metrics,
            "/openapi.json": lambda: Answer(200, _OPENAPI),
        }

    async def __call__(self, request: BaseRequest) -> web.StreamResponse:
        path, _, query = request.path_qs.partition("?")
        answer, door = await self._answer(request, path, query)
        self._counts.requests[door, answer.status] += 1
        # The server only ever calls `prepare`, `write_eof` and `keep_alive`.
        return Reply(request, answer, self._seconds, self.draining)  # type: ignore[return-value]

    async def _answer(self, request: BaseRequest, path: str, query: str) -> tuple[Answer, str]:
        method = request.method
        if path == EVENTS:
            if method == "POST":
                return await self._posting.post_events(request, query), events.DOOR
            return self._preflight(request, "POST, OPTIONS"), events.DOOR
        if path.startswith(COLLECT) and path.count("/") == 3:
            if method != "POST":
                return self._preflight(request, "POST, OPTIONS"), webhook.DOOR
            _, _, name, source = map(asking.path_part, path.split("/"))
            return await self._posting.post_webhook(request, query, name, source), webhook.DOOR
        get = self._gets.get(path)
        if get is None:
            return problem(Problem("not_found", f"Events go to POST {EVENTS}.")), "none"
        if method not in ("GET", "HEAD"):
            return self._not_allowed("GET, HEAD"), path
        return get(), path

    def _preflight(self, request: BaseRequest, allowed: str) -> Answer:
        """A preflight carries no key: pages of an origin that any source allows may ask."""
        if request.method != "OPTIONS":
            return self._not_allowed(allowed)
        page = request.headers.get(hdrs.ORIGIN)
        if page is None:
            return Answer(204, b"", headers=b"Allow: %b\r\n" % allowed.encode())
        if not self._world.registry.loaded:
            return problem(unavailable("The registry is not read yet."))
        if not self._world.registry.knows_origin(page):
            return problem(Problem("origin_not_allowed", "No source takes events from its pages."))
        return Answer(204, b"", headers=cors(page) + PREFLIGHT)

    def _not_allowed(self, allowed: str) -> Answer:
        lines = b"Allow: %b\r\n" % allowed.encode()
        return problem(Problem("method_not_allowed", f"It answers {allowed}."), lines)

    def _readiness(self) -> Answer:
        if why := self.why_unready():
            return Answer(503, f"{why}\n".encode(), TEXT)
        return Answer(200, b"ready\n", TEXT)

    def why_unready(self) -> str:
        """Empty when ready; else why not, in one sentence."""
        if self.draining:
            return "draining"
        if not self._world.registry.loaded:
            return "the registry is not read yet"
        if not self._world.producer.ready:
            return "no produce was acknowledged in the last seconds"
        return ""

    def _metrics(self) -> Answer:
        self.hand_over_counts()
        return Answer(200, metrics.exposition(), _METRICS_KIND)

    def hand_over_counts(self) -> None:
        self._counts.hand_over()
        metrics.IN_FLIGHT.set(self._world.budget.taken)
        metrics.WAITING.set(self._world.producer.outstanding)
        metrics.READY.set(not self.why_unready())
