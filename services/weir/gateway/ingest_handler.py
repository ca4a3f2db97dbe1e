"""Handle an ingest request: authorize, limit, read the body, build records, write to Kafka, then answer."""

import math
import time
import uuid

import msgspec
from aiohttp import hdrs
from aiohttp.web_request import BaseRequest
from msgspec import Struct

from weir.core import topics
from weir.gateway.app_context import AppContext
from weir.gateway.doors.door import RECEIPT_SECONDS, Door
from weir.gateway.http import request_headers, signing
from weir.gateway.http.body_budget import Reservation
from weir.gateway.http.body_reader import Reading
from weir.gateway.http.error_codes import KEPT, Problem, ProblemError
from weir.gateway.http.problems import (
    cors,
    limited,
    overloaded,
    unacknowledged,
    unavailable,
    unsupported,
)
from weir.gateway.http.rate_limits import network_of
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.http.responses import Answer
from weir.gateway.ingest.accepted_writer import Client
from weir.gateway.ingest.build_records import (
    RecordContext,
    RequestRecords,
    build_records,
    refuse_unwritable,
    rejected_body,
)
from weir.gateway.ingest.parsed_events import (
    BodyLimits,
    BodyProblemError,
    Credentials,
    Outcome,
    ParsedEvents,
)
from weir.gateway.ingest.producer import KafkaRecord, Written
from weir.gateway.registry_copy import SourceView
from weir.runtime import logs

RECORD_OVERHEAD_BYTES = 320  # upper bound of what an event's record adds to the client's bytes


class AuthorizedRequest(Struct, frozen=True):
    """A request that may send events: its source, and where it came from."""

    view: SourceView
    address: str
    marked: bool  # over a quota that only marks events
    headers: bytes  # CORS headers, for browsers
    key: str  # the write key in the request; empty: none

    @property
    def is_known(self) -> bool:
        """Whether the client has shown a secret key: the keys of browser sources are on every page."""
        return bool(self.key) and self.view.source.kind != "browser"


class UnauthorizedError(ProblemError):
    """The rejection of a client that may not send, or not now. `headers`: for the answer."""

    def __init__(self, problem: Problem, headers: bytes = b"") -> None:
        super().__init__(problem)
        self.headers = headers


class RequestBody(Struct, frozen=True):
    """A body as it was read and parsed. With a `trouble`, none of its events is accepted."""

    raw: bytes
    events: ParsedEvents
    trouble: Problem | None
    is_whole: bool


class IngestHandler:
    """The ingest of all doors. It answers with success only after every accepted event is on all in-sync replicas.

    Every fault is raised as a `ProblemError`; `post` or `_post` turns it into the answer.
    """

    def __init__(self, app: AppContext) -> None:
        self._app = app
        settings = app.settings
        self._log = logs.get("gateway")
        self._limits = BodyLimits(settings.gateway_max_events, settings.gateway_max_body_bytes)

    async def post(self, request: BaseRequest, door: Door, meta: RequestMeta) -> Answer:
        """Return the answer of `door` to a request."""
        try:
            return await self._post(request, door, meta)
        except UnauthorizedError as error:
            return self._refuse(door, meta, error.problem, error.headers)
        except ProblemError as error:
            return self._refuse(door, meta, error.problem)

    async def _post(self, request: BaseRequest, door: Door, meta: RequestMeta) -> Answer:
        if not self._app.registry.loaded:
            raise ProblemError(unavailable("The registry is not loaded yet."))
        credentials = door.credentials(meta)
        authorized: AuthorizedRequest | None = None
        if credentials is not None:  # reject a client that may not send before the body is read
            authorized = self._authorize(credentials, meta)
        reservation = self._reservation(authorized, meta)
        try:
            body = await self._read(
                Reading(request, reservation, self._limits.body_bytes), door, meta
            )
            if authorized is None:  # only the body names the source
                authorized = self._authorize_by_body(body, meta)
            reservation.identify(authorized.view.source.id)
            try:
                return await self._ingest(door, meta, body, authorized, reservation)
            except ProblemError as error:
                return self._refuse(door, meta, error.problem, authorized.headers)
        finally:
            reservation.release()

    def _reservation(self, authorized: AuthorizedRequest | None, meta: RequestMeta) -> Reservation:
        budget = self._app.budget
        if authorized is not None and authorized.is_known:
            return budget.of_source(authorized.view.source.id)
        return budget.of_stranger(network_of(meta.address))

    async def _read(self, reading: Reading, door: Door, meta: RequestMeta) -> RequestBody:
        """Read and parse the body. A `ProblemError` becomes its `trouble`, to be raised once the source is known."""
        raw, broken = await reading.read(self._app.settings.gateway_body_seconds)
        self._app.counts.body_bytes += len(raw)
        if broken is not None:
            return RequestBody(raw, ParsedEvents(), broken, False)
        content_type = meta.headers.get(hdrs.CONTENT_TYPE, "")
        if not door.takes(request_headers.media_of(content_type)):
            return RequestBody(raw, ParsedEvents(), unsupported(content_type), True)
        try:
            return RequestBody(raw, door.parse(meta, raw, self._limits), None, True)
        except BodyProblemError as error:
            return RequestBody(
                raw, ParsedEvents(credentials=error.credentials), error.problem, True
            )
        except ProblemError as error:
            return RequestBody(raw, ParsedEvents(), error.problem, True)

    def _authorize_by_body(self, body: RequestBody, meta: RequestMeta) -> AuthorizedRequest:
        credentials = body.events.credentials
        if credentials is None and body.trouble is not None:
            raise ProblemError(body.trouble)  # no source: the body cannot be stored for one
        return self._authorize(credentials or Credentials(), meta)

    def _authorize(self, credentials: Credentials, meta: RequestMeta) -> AuthorizedRequest:
        """Check everything that needs no event: key, origin, brokers, backlog, client rate, quota.

        `UnauthorizedError` if a check fails.
        """
        app = self._app
        page = meta.headers.get(hdrs.ORIGIN)
        view = app.registry.claimed(credentials)
        if view is None:
            known = page is not None and app.registry.knows_origin(page)
            trouble = app.registry.explained(credentials.key, credentials.unauthorized())
            lines = (cors(page) if known and page else b"") + b"WWW-Authenticate: Bearer\r\n"
            raise UnauthorizedError(trouble, lines)
        headers = b""
        if page is not None:
            if not view.allows(page):
                text = "Add the page's origin to the source's allowed_origins."
                raise UnauthorizedError(Problem("origin_not_allowed", text))
            headers = cors(page)
        if not app.producer.ready:
            raise UnauthorizedError(unavailable("The brokers do not acknowledge."), headers)
        if backlog := app.guard.problem(view.source.id):
            raise UnauthorizedError(backlog, headers)
        is_limited = view.source.kind == "browser" or not credentials.key
        if is_limited and (wait := app.clients.take(meta.address, time.monotonic())):
            problem = limited("client_rate_limited", "Requests from this address", wait)
            raise UnauthorizedError(problem, headers)
        marked = False
        if view.exceeded:
            used_up, marked = _over_quota(view, meta.now_ms)
            if used_up is not None:
                raise UnauthorizedError(used_up, headers)
        return AuthorizedRequest(view, meta.address, marked, headers, credentials.key)

    async def _ingest(
        self,
        door: Door,
        meta: RequestMeta,
        body: RequestBody,
        authorized: AuthorizedRequest,
        reservation: Reservation,
    ) -> Answer:
        """Process a body whose source is known, and return the answer."""
        source, events = authorized.view.source, body.events
        named = events.credentials
        if named is not None and named.source not in ("", source.id):
            raise ProblemError(named.unauthorized())  # the key in the headers is another source's
        trouble, signed = body.trouble, None
        try:
            signed = door.verify(meta, body.raw, source) if body.is_whole else None
        except ProblemError as error:
            trouble = error.problem
        else:
            if signed is None and signing.must_sign(source, door.name):
                # Reject an unsigned request before it counts for the source or is stored for it: otherwise
                # a client that knows only the key could use up the source's limits.
                raise ProblemError(
                    signing.UNSIGNED if trouble is None or body.is_whole else trouble
                )
        trouble = trouble or self._limit_source(authorized.view, len(events))
        if trouble is not None:
            await self._keep(door, meta, trouble, body.raw, authorized)
            raise ProblemError(trouble)
        # memory of the records, beside the body: each record contains the whole shared context
        expanded = len(events) * (RECORD_OVERHEAD_BYTES + len(events.shared.raw))
        if not reservation.take(expanded):
            raise ProblemError(overloaded())
        context = self._record_context(door, meta, authorized, events, signed or b"")
        records, outcome = await self._store_with_receipts(
            build_records(events, source, context), events, context
        )
        self._count(records, events)
        answer = door.reply(meta, events, outcome)
        if not authorized.headers:
            return answer
        return answer._replace(headers=answer.headers + authorized.headers)

    def _count(self, records: RequestRecords, events: ParsedEvents) -> None:
        counts = self._app.counts
        counts.accepted += len(records.event_ids)
        counts.declined += events.declined
        counts.warned += len(records.warnings)
        counts.ignored_ids.update(records.ignored_ids)
        for one in records.refused:
            counts.refused[one.refusal.code] += 1

    async def _store_with_receipts(
        self, records: RequestRecords, events: ParsedEvents, context: RecordContext
    ) -> tuple[RequestRecords, Outcome]:
        """Make the records durable; return (records, outcome).

        If the request wants receipts, the outcome has those that came within RECEIPT_SECONDS.
        """
        if not events.wants_receipts:
            stored = await self._store(records, events, context)
            return stored, stored.outcome()
        event_ids = {uuid.UUID(text).bytes: text for text in records.event_ids}
        with self._app.receipts.expect(event_ids) as waiting:
            stored = await self._store(records, events, context)
            heard = await waiting.wait(RECEIPT_SECONDS)
        outcome = stored.outcome()
        outcome.receipts = {event_ids[event_id]: receipt for event_id, receipt in heard.items()}
        return stored, outcome

    async def _store(
        self, records: RequestRecords, events: ParsedEvents, context: RecordContext
    ) -> RequestRecords:
        """Write the records; reject the events whose records the brokers will never accept."""
        written = await self._written(records.records, context.received_at)
        if not written.begun and not written.known:
            raise ProblemError(unavailable("Too many records wait for the brokers."))
        if not written.known:
            raise ProblemError(unacknowledged())
        if not written.refused:
            return records
        context = msgspec.structs.replace(context, limits=self._app.limits.present)
        records = refuse_unwritable(records, set(written.refused), events, context)
        written = await self._written(records.records, context.received_at)
        if written.refused:
            self._report_not_stored(context, len(written.refused))
        if not written.known:
            raise ProblemError(unacknowledged())
        return records

    async def _written(self, records: list[KafkaRecord], now_ms: int) -> Written:
        if not records:
            return Written(True)
        started = time.perf_counter()
        written = await self._app.producer.write(records, now_ms)
        self._app.counts.ack_seconds += time.perf_counter() - started
        return written

    def _report_not_stored(self, context: RecordContext, count: int) -> None:
        self._app.counts.not_stored += count
        self._log.error(
            "rejected events are not stored anywhere: the brokers refuse their records, too",
            source=context.source.source,
            events=count,
            topic=topics.REJECTED,
        )

    async def _keep(
        self,
        door: Door,
        meta: RequestMeta,
        trouble: Problem,
        body: bytes,
        authorized: AuthorizedRequest,
    ) -> None:
        """Store a rejected body if the client can fix it (`KEPT`); the answer waits for the acknowledgement."""
        if trouble.code not in KEPT or door.declines(meta):
            return
        context = self._record_context(door, meta, authorized, ParsedEvents(), b"")
        written = await self._written([rejected_body(trouble, body, context)], meta.now_ms)
        if written.refused:
            self._report_not_stored(context, 1)
        if not written.known:
            raise ProblemError(unavailable("The brokers did not acknowledge in time."))
        self._app.counts.refused[trouble.code] += 1

    def _record_context(
        self,
        door: Door,
        meta: RequestMeta,
        authorized: AuthorizedRequest,
        events: ParsedEvents,
        signed: bytes,
    ) -> RecordContext:
        view = authorized.view
        client = Client(
            door.name,
            events.ip or authorized.address,
            events.user_agent or request_headers.user_agent_of(meta.headers),
            has_profile=events.wants_profile,
            over_quota=authorized.marked,
            has_session=events.wants_session,
            saved=events.saved,
            wants_receipt=events.wants_receipts,
            public=not authorized.is_known and not (signed and view.source.kind != "browser"),
        )
        return RecordContext(
            view.fields,
            meta.now_ms,
            client,
            authorized.key,
            signed,
            door.redact,
            door.client_id,
            self._app.limits.present,
        )

    def _refuse(
        self, door: Door, meta: RequestMeta, trouble: Problem, headers: bytes = b""
    ) -> Answer:
        self._app.counts.problems[trouble.code] += 1
        return door.refuse(meta, trouble, headers)

    def _limit_source(self, view: SourceView, count: int) -> Problem | None:
        if view.bucket is None:
            return None
        wait = view.bucket.take(count, time.monotonic())
        return limited("source_rate_limited", "Events from this source", wait) if wait else None


def _over_quota(view: SourceView, now_ms: int) -> tuple[Problem | None, bool]:
    """Return (why the source may not send now, or None; whether its events must be marked)."""
    quota, resets_at, marked = view.exceeded_at(now_ms)
    if quota is None:
        return None, marked
    wait = max(1, math.ceil((resets_at - now_ms) / 1000))
    text = f"Quota {quota.name!r} of {quota.limit:,} {quota.unit} per {quota.period} is used up."
    return Problem("quota_exceeded", text, "", wait), marked
