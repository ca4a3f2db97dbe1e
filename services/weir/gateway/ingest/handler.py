"""What happens to a POST, in order: who may, how much, the body, the events, Kafka, and only then the answer."""

import time
import uuid
from dataclasses import dataclass

import msgspec
from aiohttp import hdrs
from aiohttp.web_request import BaseRequest
from msgspec import Struct

from weir.adapters.kafka.record_limits import LimitsFollower
from weir.core import topics
from weir.erasure.topic import Erasures
from weir.gateway.api.counting import Counting
from weir.gateway.api.finding import Finding
from weir.gateway.api.shared_goals import SharedGoals
from weir.gateway.doors.door import (
    RECEIPT_SECONDS,
    BodyLimits,
    Credentials,
    Door,
    Outcome,
    ParsedEvents,
    RequestMeta,
)
from weir.gateway.http import request_headers
from weir.gateway.http.body_budget import BodyBudget, Reservation
from weir.gateway.http.body_reader import Reading
from weir.gateway.http.problems import (
    cors,
    limited,
    over_quota,
    overloaded,
    unacknowledged,
    unauthorized,
    unavailable,
    unsupported,
)
from weir.gateway.http.rate_limits import ClientBuckets, Proxies, network_of
from weir.gateway.http.responses import Answer
from weir.gateway.ingest import signing
from weir.gateway.ingest.accepted_writer import Client
from weir.gateway.ingest.backlog_guard import RetentionGuard
from weir.gateway.ingest.build_records import (
    RecordContext,
    RequestRecords,
    build_records,
    refuse_unwritable,
    rejected_body,
)
from weir.gateway.ingest.error_codes import KEPT, Problem
from weir.gateway.ingest.producer import GatewayProducer, Record, Written
from weir.gateway.ingest.receipts import Receipts
from weir.gateway.metrics import Counts
from weir.gateway.registry_copy import Registry, SourceView
from weir.runtime import logs
from weir.settings.gateway import GatewaySettings

RECORD_OVERHEAD_BYTES = 320  # of an event's record, at most, beside what the client sent of it


@dataclass
class AppContext:
    """What a request meets: made once a process."""

    settings: GatewaySettings
    registry: Registry
    producer: GatewayProducer
    clients: ClientBuckets
    proxies: Proxies
    budget: BodyBudget
    counts: Counts
    receipts: Receipts
    counting: Counting
    finding: Finding
    guard: RetentionGuard
    erasures: Erasures
    limits: LimitsFollower
    goals: SharedGoals


class AuthorizedRequest(Struct, frozen=True):
    """A request that may post: its source, and where it came from."""

    view: SourceView
    address: str
    marked: bool  # over a quota that only marks
    headers: bytes  # CORS, for browsers
    key: str  # that it claimed; empty: none

    @property
    def is_known(self) -> bool:
        """Whether it has shown a secret: the keys of browser sources are on every page."""
        return bool(self.key) and self.view.source.kind != "browser"


class IngestHandler:
    """Answers at any door. A good answer comes only after every record is on all in-sync replicas."""

    def __init__(self, world: AppContext) -> None:
        self._world = world
        settings = world.settings
        self._log = logs.get("gateway")
        self._caps = BodyLimits(settings.gateway_max_events, settings.gateway_max_body_bytes)

    async def post(self, request: BaseRequest, door: Door, asked: RequestMeta) -> Answer:
        """The answer of `door` to a request."""
        if not self._world.registry.loaded:
            return self._refuse(door, asked, unavailable("The registry is not read yet."))
        claim = door.claim(asked)
        visit: AuthorizedRequest | None = None
        if claim is not None:  # whoever may not send is told before the body is read
            found = self._admit(claim, door, asked)
            if isinstance(found, Answer):
                return found
            visit = found
        reservation = self._reservation(visit, asked)
        try:
            reading = Reading(request, reservation, self._caps.body_bytes)
            return await self._receive(reading, reservation, door, asked, visit)
        finally:
            reservation.release()

    def _reservation(self, visit: AuthorizedRequest | None, asked: RequestMeta) -> Reservation:
        budget = self._world.budget
        if visit is not None and visit.is_known:
            return budget.of_source(visit.view.source.id)
        return budget.of_stranger(network_of(asked.address))

    def _is_of(self, claim: Credentials | None, visit: AuthorizedRequest) -> bool:
        """Whether a body names the source that its headers have shown the key of, if it names one."""
        named = claim.source if claim is not None else ""
        return not named or named == visit.view.source.id

    async def _receive(
        self,
        reading: Reading,
        reservation: Reservation,
        door: Door,
        asked: RequestMeta,
        visit: AuthorizedRequest | None,
    ) -> Answer:
        """Read the body; `visit` is None if only the body says who sends."""
        body, trouble = await reading.read(self._world.settings.gateway_body_seconds)
        self._world.counts.body_bytes += len(body)
        is_whole = trouble is None
        content_type = asked.headers.get(hdrs.CONTENT_TYPE, "")
        if trouble is None and not door.takes(request_headers.media_of(content_type)):
            trouble = unsupported(content_type)
        parcel = trouble or door.read(asked, body, self._caps)
        if visit is None:
            if isinstance(parcel, Problem):  # nobody's, so there is no account to keep it in
                return self._refuse(door, asked, parcel)
            found = self._admit(parcel.claim or Credentials(), door, asked)
            if isinstance(found, Answer):
                return found
            visit = found
        elif isinstance(parcel, ParsedEvents) and not self._is_of(parcel.claim, visit):
            return self._refuse(
                door, asked, unauthorized(parcel.claim or Credentials()), visit.headers
            )
        reservation.identify(visit.view.source.id)
        if isinstance(parcel, ParsedEvents):
            parcel = parcel.problem or parcel
        source = visit.view.source
        signed = door.verify(asked, body, source) if is_whole else None
        if isinstance(signed, Problem):
            parcel = signed
        elif signed is None and signing.must_sign(source, door.name):
            # without its signature it is nobody's: whoever knows the key alone would fill the account
            trouble = parcel if isinstance(parcel, Problem) and not is_whole else signing.UNSIGNED
            return self._refuse(door, asked, trouble, visit.headers)
        elif signed is not None and isinstance(parcel, ParsedEvents):
            parcel.signed = signed
            window = parcel.window_seconds or source.dedup_window_seconds
            parcel.window_seconds = max(window, signing.REMEMBERED_SECONDS)
        if isinstance(parcel, ParsedEvents):
            parcel = self._limit_source(visit.view, len(parcel)) or parcel
        if isinstance(parcel, Problem):
            return await self._refuse_body(door, asked, parcel, body, visit)
        # what the records take beside the body: each has the shared context whole
        expanded = len(parcel) * (RECORD_OVERHEAD_BYTES + len(parcel.shared.raw))
        if not reservation.take(expanded):
            return self._refuse(door, asked, overloaded(), visit.headers)
        return await self._write(door, asked, parcel, visit)

    def _admit(
        self, claim: Credentials, door: Door, asked: RequestMeta
    ) -> AuthorizedRequest | Answer:
        """Key, origin, brokers, backlog, rate and quota: all that needs no event."""
        world = self._world
        page = asked.headers.get(hdrs.ORIGIN)
        view = world.registry.claimed(claim)
        if view is None:
            known = page is not None and world.registry.knows_origin(page)
            trouble = world.registry.explained(claim.key, unauthorized(claim))
            lines = (cors(page) if known and page else b"") + b"WWW-Authenticate: Bearer\r\n"
            return self._refuse(door, asked, trouble, lines)
        cors_lines = b""
        if page is not None:
            if not view.allows(page):
                text = "Add the page's origin to the source's allowed_origins."
                return self._refuse(door, asked, Problem("origin_not_allowed", text))
            cors_lines = cors(page)
        if not world.producer.ready:
            trouble = unavailable("The brokers do not acknowledge.")
            return self._refuse(door, asked, trouble, cors_lines)
        backlog = world.guard.problem(view.source.id)
        if backlog is not None:
            return self._refuse(door, asked, backlog, cors_lines)
        marked = False
        is_limited = view.source.kind == "browser" or not claim.key
        limited = self._limit_client(asked.address) if is_limited else None
        if limited is None and view.exceeded:
            limited, marked = over_quota(view, asked.now_ms)
        if limited is not None:
            return self._refuse(door, asked, limited, cors_lines)
        return AuthorizedRequest(view, asked.address, marked, cors_lines, claim.key)

    async def _write(
        self, door: Door, asked: RequestMeta, parcel: ParsedEvents, visit: AuthorizedRequest
    ) -> Answer:
        origin = self._origin(door, asked, visit, parcel)
        settled = await self._settle(
            build_records(parcel, visit.view.source, origin), parcel, origin
        )
        if isinstance(settled, Problem):
            return self._refuse(door, asked, settled, visit.headers)
        intake, outcome = settled
        counts = self._world.counts
        counts.accepted += len(intake.event_ids)
        counts.declined += parcel.declined
        counts.warned += len(intake.warnings)
        counts.ignored_ids.update(intake.ignored_ids)
        for one in intake.refused:
            counts.refused[one.refusal.code] += 1
        answer = door.reply(asked, parcel, outcome)
        if not visit.headers:
            return answer
        return answer._replace(headers=answer.headers + visit.headers)

    async def _settle(
        self, intake: RequestRecords, parcel: ParsedEvents, origin: RecordContext
    ) -> tuple[RequestRecords, Outcome] | Problem:
        """Durable on return, with the receipts that came in time if there are to be any."""
        if not parcel.wants_receipts:
            stored = await self._store(intake, parcel, origin)
            return stored if isinstance(stored, Problem) else (stored, stored.outcome())
        event_ids = {uuid.UUID(text).bytes: text for text in intake.event_ids}
        with self._world.receipts.expect(event_ids) as waiting:
            stored = await self._store(intake, parcel, origin)
            if isinstance(stored, Problem):
                return stored
            heard = await waiting.wait(RECEIPT_SECONDS)
        outcome = stored.outcome()
        outcome.receipts = {event_ids[event_id]: receipt for event_id, receipt in heard.items()}
        return stored, outcome

    async def _store(
        self, intake: RequestRecords, parcel: ParsedEvents, origin: RecordContext
    ) -> RequestRecords | Problem:
        """Write the records; refuse the events whose records the brokers will never take."""
        written = await self._written(intake.records, origin.received_at)
        if not written.begun and not written.known:
            return unavailable("Too much waits for the brokers.")
        if not written.known:
            return unacknowledged()
        if not written.refused:
            return intake
        origin = msgspec.structs.replace(origin, limits=self._world.limits.present)
        intake = refuse_unwritable(intake, set(written.refused), parcel, origin)
        written = await self._written(intake.records, origin.received_at)
        if written.refused:
            self._tell_not_stored(origin, len(written.refused))
        return intake if written.known else unacknowledged()

    async def _written(self, records: list[Record], now_ms: int) -> Written:
        if not records:
            return Written(True)
        started = time.perf_counter()
        written = await self._world.producer.write(records, now_ms)
        self._world.counts.ack_seconds += time.perf_counter() - started
        return written

    def _tell_not_stored(self, origin: RecordContext, count: int) -> None:
        self._world.counts.not_stored += count
        self._log.error(
            "refused events are stored nowhere: the brokers refuse their records, too",
            source=origin.source.source,
            events=count,
            topic=topics.REJECTED,
        )

    async def _refuse_body(
        self,
        door: Door,
        asked: RequestMeta,
        trouble: Problem,
        body: bytes,
        visit: AuthorizedRequest,
    ) -> Answer:
        """Kept whole if it is the client's to mend: the answer follows the acknowledgement then, too."""
        if trouble.code in KEPT and not door.declines(asked):
            origin = self._origin(door, asked, visit, ParsedEvents())
            written = await self._written([rejected_body(trouble, body, origin)], asked.now_ms)
            if written.refused:
                self._tell_not_stored(origin, 1)
            if not written.known:
                trouble = unavailable("The brokers did not acknowledge in time.")
            else:
                self._world.counts.refused[trouble.code] += 1
        return self._refuse(door, asked, trouble, visit.headers)

    def _origin(
        self, door: Door, asked: RequestMeta, visit: AuthorizedRequest, parcel: ParsedEvents
    ) -> RecordContext:
        client = Client(
            door.name,
            parcel.ip or visit.address,
            parcel.user_agent or request_headers.user_agent_of(asked.headers),
            has_profile=parcel.wants_profile,
            over_quota=visit.marked,
            has_session=parcel.wants_session,
            saved=parcel.saved,
            wants_receipt=parcel.wants_receipts,
            public=not visit.is_known
            and not (parcel.signed and visit.view.source.kind != "browser"),
        )
        limits = self._world.limits.present
        return RecordContext(visit.view.fields, asked.now_ms, client, visit.key, door.mask, limits)

    def _refuse(
        self, door: Door, asked: RequestMeta, trouble: Problem, headers: bytes = b""
    ) -> Answer:
        self._world.counts.problems[trouble.code] += 1
        return door.refuse(asked, trouble, headers)

    def _limit_client(self, address: str) -> Problem | None:
        wait = self._world.clients.take(address, time.monotonic())
        return limited("client_rate_limited", "Requests of this address", wait) if wait else None

    def _limit_source(self, view: SourceView, count: int) -> Problem | None:
        if view.bucket is None:
            return None
        wait = view.bucket.take(count, time.monotonic())
        return limited("source_rate_limited", "Events of this source", wait) if wait else None
