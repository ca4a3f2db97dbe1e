"""Dispatch requests to doors and pages on aiohttp's low-level server, without middlewares."""

import time
from collections import Counter
from collections.abc import Callable

import msgspec
from aiohttp import hdrs, web
from aiohttp.web_request import BaseRequest
from prometheus_client import CONTENT_TYPE_LATEST

from weir.gateway import metrics
from weir.gateway.app_context import AppContext
from weir.gateway.doors.door import Door
from weir.gateway.http import request_headers
from weir.gateway.http.body_reader import Reading
from weir.gateway.http.connections import ConnectionLimits
from weir.gateway.http.error_codes import Problem
from weir.gateway.http.openapi import document
from weir.gateway.http.problems import cors, unavailable
from weir.gateway.http.rate_limits import network_of
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import TEXT, Answer, Reply, problem
from weir.gateway.ingest.validation import EVENT_SCHEMA
from weir.gateway.ingest_handler import IngestHandler
from weir.gateway.routes import ROUTES, RouteMatch, Router
from weir.runtime.browser_requests import is_loopback, refuse_foreign_page

PREFLIGHT = (
    b"Access-Control-Allow-Methods: %b\r\n"
    b"Access-Control-Allow-Headers: authorization, content-type, content-encoding, x-weir-key,"
    b" x-api-key, x-hackle-sdk-key, x-hackle-sdk-name, x-hackle-sdk-version, x-hackle-sdk-time,"
    b" idempotency-key\r\n"
    b"Access-Control-Max-Age: 7200\r\n"
)
DOCUMENT = document(ROUTES, EVENT_SCHEMA)
_OPENAPI = msgspec.json.encode(DOCUMENT)
_METRICS_KIND = CONTENT_TYPE_LATEST.encode()
Get = Callable[[], Answer]


class App:
    """The handler of all requests: it answers each with a `Reply`, never with a traceback."""

    def __init__(self, context: AppContext, connections: ConnectionLimits) -> None:
        self.draining = False
        self._connections = connections
        self._counted: Counter[str] = Counter()
        self._context = context
        self._counts = context.counts
        self._ingest = IngestHandler(context)
        self._router = Router(ROUTES)
        self._seconds = context.settings.gateway_body_seconds
        self._gets: dict[str, Get] = {
            "/livez": lambda: Answer(200, b"live\n", TEXT),
            "/readyz": self._readiness,
            "/metrics": self._metrics,
            "/openapi.json": lambda: Answer(200, _OPENAPI),
        }

    async def __call__(self, request: BaseRequest) -> web.StreamResponse:
        path, _, query = request.path_qs.partition("?")
        found = self._router.find(path)
        if found is None or (path in self._gets and request.method in ("GET", "HEAD")):
            answer, name = self._get(request, path)
        else:
            answer, name = await self._answer(request, found, query)
        self._counts.requests[name, answer.status] += 1
        # The server only ever calls `prepare`, `write_eof` and `keep_alive`.
        return Reply(request, answer, self._seconds, self.draining)  # type: ignore[return-value]

    async def _answer(
        self, request: BaseRequest, found: RouteMatch, query: str
    ) -> tuple[Answer, str]:
        method = request.method
        at = found.methods.get(method)
        if at is None:
            return self._preflight(request, found), found.path
        context = self._context
        asked = RequestMeta(
            method,
            found.path,
            query,
            found.parts,
            request.headers,
            request_headers.client_address(request, context.proxies),
            time.time_ns() // 1_000_000,
            request.raw_path,
        )
        if isinstance(at, Door):
            return await self._ingest.post(request, at, asked), at.name
        reservation = context.budget.of_stranger(network_of(asked.address))
        reading = Reading(request, reservation, context.settings.gateway_max_body_bytes)
        try:
            answer = await at.answer(asked, lambda: reading.read(self._seconds), context)
            page = request.headers.get(hdrs.ORIGIN)
            if page is not None and context.registry.knows_origin(page):
                answer = answer._replace(headers=answer.headers + cors(page))
            return answer, at.name
        finally:
            reservation.release()

    def _get(self, request: BaseRequest, path: str) -> tuple[Answer, str]:
        get = self._gets.get(path)
        if get is None:
            text = "Send events to POST /v1/events; GET /openapi.json lists every path."
            return problem(Problem("not_found", text)), "none"
        if request.method not in ("GET", "HEAD"):
            return self._not_allowed("GET, HEAD"), path
        if path == "/metrics" and (why := _of_foreign_page(request)):
            return problem(Problem("origin_not_allowed", f"{why}.")), path
        return get(), path

    def _preflight(self, request: BaseRequest, found: RouteMatch) -> Answer:
        """Answer OPTIONS, and 405 to other methods that the path does not have.

        A preflight carries no key, so it is granted to every origin that any source allows.
        """
        allowed = ", ".join((*found.methods, "OPTIONS"))
        if request.method != "OPTIONS":
            return self._not_allowed(allowed)
        page = request.headers.get(hdrs.ORIGIN)
        if page is None:
            return Answer(204, b"", headers=b"Allow: %b\r\n" % allowed.encode())
        if not self._context.registry.loaded:
            return problem(unavailable("The registry is not loaded yet."))
        if not self._context.registry.knows_origin(page):
            return problem(
                Problem("origin_not_allowed", "No source accepts events from pages of this origin.")
            )
        methods = ", ".join(found.methods).encode()
        return Answer(204, b"", headers=cors(page) + PREFLIGHT % methods)

    def _not_allowed(self, allowed: str) -> Answer:
        lines = b"Allow: %b\r\n" % allowed.encode()
        return problem(Problem("method_not_allowed", f"Allowed: {allowed}."), lines)

    def _readiness(self) -> Answer:
        if why := self.why_unready():
            return Answer(503, f"{why}\n".encode(), TEXT)
        return Answer(200, b"ready\n", TEXT)

    def why_unready(self) -> str:
        """Return why the process is not ready, in one sentence; empty if it is ready."""
        if self.draining:
            return "draining"
        if not self._context.registry.loaded:
            return "the registry is not loaded yet"
        if trouble := self._context.producer.trouble():
            return trouble
        if self._context.guard.is_waiting():
            return "the age of unread records is not known yet"
        return ""

    def _metrics(self) -> Answer:
        self.hand_over_counts()
        return Answer(200, metrics.exposition(), _METRICS_KIND)

    def hand_over_counts(self) -> None:
        self._counts.hand_over()
        metrics.IN_FLIGHT.set(self._context.budget.taken)
        metrics.WAITING.set(self._context.producer.outstanding)
        metrics.READY.set(not self.why_unready())
        self._count_what_gave_way()

    def _count_what_gave_way(self) -> None:
        places, read_ahead = self._connections.places, self._connections.read_ahead
        metrics.CONNECTIONS.set(len(places))
        metrics.UNREAD.set(read_ahead.taken)
        present = Counter(
            connection=places.closed,
            refused=places.refused,
            unread=read_ahead.closed,
            body=self._context.budget.gave_way,
        )
        for what, count in (present - self._counted).items():
            metrics.GAVE_WAY.labels(what).inc(count)
        self._counted = present


def _of_foreign_page(request: BaseRequest) -> str | None:
    """Return why a request for the metrics must be rejected, or None if it may be answered.

    The metrics name sources, so no page of another origin may read them. On loopback the request must also
    name this machine, against DNS rebinding.
    """
    transport = request.transport
    local = transport.get_extra_info("sockname") if transport is not None else None
    on_loopback = local is not None and is_loopback(local[0])
    return refuse_foreign_page(lambda name: request.headers.getall(name, ()), on_loopback)
