"""What happens to a POST, in order: who may, how much, the body, the events, Kafka, and only then the answer."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import hdrs
from aiohttp.web_request import BaseRequest
from msgspec import Struct

from services.gateway import asking
from services.gateway.config import GatewaySettings
from services.gateway.doors import events, webhook
from services.gateway.encode import Client
from services.gateway.http import Answer, problem
from services.gateway.intake import Intake, Origin, rejected_body, take_events, take_webhook
from services.gateway.limits import ClientBuckets, Proxies
from services.gateway.metrics import Counts
from services.gateway.producer import GatewayProducer, Record
from services.gateway.reading import Budget, Reading
from services.gateway.refusals import KEPT, Problem, quoted
from services.gateway.registry import Registry, SourceView

RETRY_SECONDS = 2
EXPANDED = 8  # a shared context may make a request this many times its cap, no more


@dataclass
class World:
    """What a request meets: made once a process."""

    settings: GatewaySettings
    registry: Registry
    producer: GatewayProducer
    clients: ClientBuckets
    proxies: Proxies
    budget: Budget
    counts: Counts


class Visit(Struct, frozen=True):
    """A request that may post: its source, and where it came from."""

    view: SourceView
    origin: Origin
    headers: bytes  # CORS, for browsers


Take = Callable[[bytes, Origin], "Intake | Problem"]


class Posting:
    """Answers the two doors. 202 only after every record is on all in-sync replicas."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._max_events = world.settings.gateway_max_events
        self._max_bytes = world.settings.gateway_max_body_bytes

    async def post_events(self, request: BaseRequest, query: str) -> Answer:
        """`POST /v1/events`."""
        visit = self._admit(request, query, events.DOOR, "")
        if isinstance(visit, Answer):
            return visit
        media = asking.media_of(request.headers.get(hdrs.CONTENT_TYPE, ""))
        is_ndjson = media.is_ndjson

        def take(body: bytes, origin: Origin) -> Intake | Problem:
            sent = events.read_events(body, is_ndjson, self._max_events)
            if isinstance(sent, Problem):
                return sent
            count = len(sent.events)
            if len(sent.shared.raw) * count > EXPANDED * self._max_bytes:
                return Problem(
                    "context_too_large",
                    f"{len(sent.shared.raw):,} bytes of context for {count:,} events.",
                )
            return self._limit_source(visit.view, count) or take_events(sent, origin)

        return await self._post(request, visit, media.taken, take)

    async def post_webhook(
        self, request: BaseRequest, query: str, name: str, source: str
    ) -> Answer:
        """`POST /collect/{event_type}/{source_id}`; without a key only if the source has open webhooks."""
        visit = self._admit(request, query, webhook.DOOR, source)
        if isinstance(visit, Answer):
            return visit
        media = asking.media_of(request.headers.get(hdrs.CONTENT_TYPE, ""))
        key = asking.clean(request.headers.get(asking.IDEMPOTENCY_KEY, "").strip())
        if len(key) > webhook.MAX_CHARACTERS:
            trouble = Problem("invalid_idempotency_key", "It has at most 255 characters.")
            return problem(trouble, visit.headers)

        def take(body: bytes, origin: Origin) -> Intake | Problem:
            found = webhook.read_webhook(body)
            if isinstance(found, Problem):
                return found
            return self._limit_source(visit.view, 1) or take_webhook(name, found, key, origin)

        return await self._post(request, visit, media.taken and not media.is_ndjson, take)

    def _admit(self, request: BaseRequest, query: str, door: str, source: str) -> Visit | Answer:
        """Key, origin, brokers, rate and quota: all that needs no body."""
        world = self._world
        headers = request.headers
        page = headers.get(hdrs.ORIGIN)
        if not world.registry.loaded:
            return self._refuse(unavailable("The registry is not read yet."))
        view = self._find(asking.key_of(headers, query), door, source)
        if view is None:
            known = page is not None and world.registry.knows_origin(page)
            return self._refuse(
                Problem(
                    "unauthorized", "Send it as `Authorization: Bearer`, `X-Weir-Key` or `?key=`."
                ),
                (cors(page) if known and page else b"") + b"WWW-Authenticate: Bearer\r\n",
            )
        cors_lines = b""
        if page is not None:
            if not view.allows(page):
                return self._refuse(
                    Problem(
                        "origin_not_allowed",
                        "Add the page's origin to the source's allowed_origins.",
                    )
                )
            cors_lines = cors(page)
        if not world.producer.ready:
            return self._refuse(unavailable("The brokers do not acknowledge."), cors_lines)
        address = asking.client_address(request, world.proxies)
        now_ms = time.time_ns() // 1_000_000
        marked = False
        limited = self._limit_client(view, address)
        if limited is None and view.exceeded:
            limited, marked = over_quota(view, now_ms)
        if limited is not None:
            return self._refuse(limited, cors_lines)
        client = Client(door, address, asking.user_agent_of(headers), door == events.DOOR, marked)
        return Visit(view, Origin(view.fields, now_ms, client), cors_lines)

    def _find(self, key: str, door: str, source: str) -> SourceView | None:
        """The source that a request may send to: of its key, or of an open webhook's path."""
        if door == events.DOOR:
            return self._world.registry.find(key)
        if not key:
            return self._world.registry.find_open(source)
        view = self._world.registry.find(key)
        return view if view is not None and view.source.id == source else None

    async def _post(self, request: BaseRequest, visit: Visit, taken: bool, take: Take) -> Answer:
        reading = Reading(request, self._world.budget, self._max_bytes)
        try:
            body, trouble = await reading.read(self._world.settings.gateway_body_seconds)
            if trouble is None and not taken:
                trouble = unsupported(request.headers.get(hdrs.CONTENT_TYPE, ""))
            self._world.counts.body_bytes += len(body)
            found = trouble or take(body, visit.origin)
            if isinstance(found, Problem):
                return await self._refuse_body(found, body, visit)
            return await self._write(found, visit)
        finally:
            reading.release()

    async def _write(self, intake: Intake, visit: Visit) -> Answer:
        if not await self._is_durable(intake.records, visit):
            return self._refuse(
                unavailable("The brokers did not acknowledge in time."), visit.headers
            )
        counts = self._world.counts
        counts.accepted += len(intake.event_ids)
        for one in intake.refused:
            counts.refused[one.refusal.code] += 1
        if intake.event_ids:
            return Answer(
                202, events.reply(intake.event_ids, intake.refused), headers=visit.headers
            )
        none = Problem("no_valid_event", events.message(intake.refused[0].refusal))
        return problem(
            none,
            visit.headers,
            accepted=0,
            rejected=events.rejected_list(intake.refused),
            event_ids=[],
        )

    async def _is_durable(self, records: list[Record], visit: Visit) -> bool:
        started = time.perf_counter()
        durable = await self._world.producer.write(records, visit.origin.received_at)
        self._world.counts.ack_seconds += time.perf_counter() - started
        return durable

    async def _refuse_body(self, found: Problem, body: bytes, visit: Visit) -> Answer:
        """Kept whole if it is the client's to mend: the answer follows the acknowledgement then, too."""
        if found.code in KEPT:
            record = rejected_body(found, body, visit.origin)
            if not await self._is_durable([record], visit):
                found = unavailable("The brokers did not acknowledge in time.")
            else:
                self._world.counts.refused[found.code] += 1
        return self._refuse(found, visit.headers)

    def _refuse(self, found: Problem, headers: bytes = b"") -> Answer:
        self._world.counts.problems[found.code] += 1
        return problem(found, headers)

    def _limit_client(self, view: SourceView, address: str) -> Problem | None:
        if view.source.kind != "browser":
            return None
        wait = self._world.clients.take(address, time.monotonic())
        return limited("client_rate_limited", "Requests of this address", wait) if wait else None

    def _limit_source(self, view: SourceView, count: int) -> Problem | None:
        if view.bucket is None:
            return None
        wait = view.bucket.take(count, time.monotonic())
        return limited("source_rate_limited", "Events of this source", wait) if wait else None


def over_quota(view: SourceView, now_ms: int) -> tuple[Problem | None, bool]:
    """Why the source may not send now, if so; and whether its events are to be marked."""
    quota, resets_at, marked = view.exceeded_at(now_ms)
    if quota is None:
        return None, marked
    wait = max(1, math.ceil((resets_at - now_ms) / 1000))
    text = f"Quota {quota.name!r}: {quota.limit:,} {quota.unit} a {quota.period}, all used."
    return Problem("quota_exceeded", text, "", wait), marked


def limited(code: str, what: str, wait: float) -> Problem:
    seconds = max(1, math.ceil(wait))
    return Problem(code, f"{what} come faster than allowed; try again in {seconds} s.", "", seconds)


def unsupported(content_type: str) -> Problem:
    said = quoted(asking.clean(content_type))
    text = f"{said} is not taken: send application/json or application/x-ndjson, in UTF-8."
    return Problem("unsupported_media_type", text)


def unavailable(why: str) -> Problem:
    return Problem("unavailable", f"{why} Nothing was accepted; try again.", "", RETRY_SECONDS)


def cors(page: str) -> bytes:
    """Lets a page's script read the answer. Credentials: beacons always come with them."""
    origin = page.encode("utf-8", "surrogateescape")
    return (
        b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Allow-Credentials: true\r\n"
        b"Access-Control-Expose-Headers: Retry-After\r\nVary: Origin\r\n" % origin
    )
