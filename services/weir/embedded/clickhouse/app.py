"""ClickHouse's HTTP interface over the embedded engine."""

import asyncio
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from weir.embedded.clickhouse import foreign_pages
from weir.embedded.clickhouse.bodies import Bodies
from weir.embedded.clickhouse.dictionaries import Refresher
from weir.embedded.clickhouse.engine import WRITE, Engine, EngineSession, QueryOutcome
from weir.embedded.clickhouse.errors import ABORTED, READONLY, EngineError, refusal
from weir.embedded.clickhouse.metrics import Metrics
from weir.embedded.clickhouse.readers import refuse_beyond_readers
from weir.embedded.clickhouse.requests import Access, QueryRequest, read_ask
from weir.embedded.clickhouse.responses import CutOff, EngineResponse, error_response
from weir.embedded.clickhouse.results import (
    Abandoned,
    Pipe,
    flows,
    repeats_names,
    without_repeated_names,
)
from weir.embedded.clickhouse.statements import InsertStatement, Statement, parse
from weir.embedded.clickhouse.thread_pools import ThreadPool
from weir.runtime import logs
from weir.settings.embedded_clickhouse import WarehouseSettings

_PIECES_AHEAD = 2
_REFRESH_SECONDS = 1.0
_KILL_AGAIN_SECONDS = 0.5
# With `wait_end_of_query` a client wants errors before the first byte: hold back more.
_WAIT_FACTOR = 8


@dataclass
class _Run:
    """One statement in progress; the engine thread records its kind, its start and its end."""

    session: EngineSession
    sql: str
    form: str
    kind: str = ""
    started: bool = False
    ended: bool = False


class ClickHouseServer:
    """Answers requests: inserts in one lane, all else in another; kills and dictionary reloads in a third."""

    def __init__(self, engine: Engine, settings: WarehouseSettings, access: Access) -> None:
        self._engine = engine
        self._settings = settings
        self._access = access
        self._metrics = Metrics()
        self._log = logs.get("warehouse")
        waiting = settings.warehouse_max_waiting
        self._inserts = ThreadPool("insert", settings.warehouse_insert_threads, waiting)
        self._queries = ThreadPool("query", settings.warehouse_query_threads, waiting)
        self._control = ThreadPool("control", 2, settings.warehouse_query_threads + waiting)
        self._lanes = (self._inserts, self._queries, self._control)
        self._bodies = Bodies(settings.warehouse_max_request, settings.warehouse_max_requests)
        self._runs: dict[str, _Run] = {}
        self._stops: set[asyncio.Task[None]] = set()
        self._serial = 0
        self._writes = 0
        self._draining = False

    def application(self) -> web.Application:
        app = web.Application(
            client_max_size=self._settings.warehouse_max_request,
            middlewares=[foreign_pages.middleware(self._access.is_open)],
        )
        app.on_response_prepare.append(foreign_pages.protect)
        app.router.add_get("/ping", self._ping)
        app.router.add_get("/metrics", self._show_metrics)
        app.router.add_get("/", self._answer)
        app.router.add_post("/", self._answer)
        return app

    async def drain(self) -> bool:
        """Refuse new statements, finish running inserts, stop reads. Return False if an insert took too long."""
        self._draining = True
        seconds = self._settings.warehouse_drain
        for run in list(self._runs.values()):
            self._stop(run)
        inserts_ended = await self._inserts.drain(seconds)
        await self._queries.drain(seconds)
        if self._stops:
            await asyncio.wait(self._stops, timeout=seconds)
        return inserts_ended

    def close(self) -> None:
        for lane in self._lanes:
            lane.close()

    async def refresh_dictionaries(self) -> None:
        """Reload changed dictionaries until cancelled; costs nothing while nothing is written."""
        refresher, seen = Refresher(self._engine), 0
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            writes = self._writes
            if writes == seen:
                continue
            try:
                refreshed = await self._control.submit(refresher.refresh, writes)
            except EngineError as fault:
                self._log.warning("dictionaries not refreshed", code=fault.code)
                continue
            if refreshed.failed:
                self._log.warning("dictionaries not refreshed", names=refreshed.failed)
            if not refreshed.later:
                seen = writes

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _show_metrics(self, _: web.Request) -> web.Response:
        for lane in self._lanes:
            self._metrics.running.labels(lane.name).set(lane.running)
            self._metrics.waiting.labels(lane.name).set(lane.waiting)
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        ask: QueryRequest | None = None
        kind, outcome, started = "unknown", "cancelled", perf_counter()
        try:
            reader = self._access.admit(request)
            async with self._bodies.hold(request) as body:
                ask = read_ask(request, body.form, reader)
                if not ask.query and not body.content:
                    return web.Response(text="Ok.\n")
                statement = parse(ask.query, body.content)
                if self._draining:  # checked last: from here on `drain` waits for the statement
                    raise refusal(ABORTED, "The server is shutting down")
                answer = EngineResponse(
                    request, ask, self._engine.timezone, self._settings.warehouse_send
                )
                if isinstance(statement, InsertStatement):
                    kind = "insert"
                    response: web.StreamResponse = await self._insert(answer, statement)
            if isinstance(statement, Statement):
                run = self._run(ask, statement)
                try:
                    response = await self._query(answer, run)
                finally:
                    kind = run.kind or kind
            outcome = "ok"
            return response
        except CutOff as cut:
            outcome = "error"
            self._log.warning("result cut off", query_id=cut.query_id, reason=cut.reason)
            return cut.response
        except EngineError as fault:
            outcome = "error"
            self._metrics.errors.labels(str(fault.code)).inc()
            return error_response(fault, ask)
        finally:
            self._metrics.requests.labels(kind, outcome).inc()
            self._metrics.seconds.labels(kind).observe(perf_counter() - started)

    def _session(self, ask: QueryRequest) -> EngineSession:
        self._serial += 1
        return EngineSession(
            tag=f"{ask.query_id} #{self._serial}",
            database=ask.database,
            settings=ask.settings,
            parameters=ask.parameters,
            readonly=ask.readonly,
            reader=ask.reader,
        )

    def _run(self, ask: QueryRequest, statement: Statement) -> _Run:
        return _Run(self._session(ask), statement.sql, statement.format or ask.default_format)

    async def _insert(self, answer: EngineResponse, insert: InsertStatement) -> web.Response:
        """Answer when the rows are durable. A client that disconnects does not interrupt an insert."""
        session = self._session(answer.ask)
        if session.readonly:
            raise refusal(READONLY, _only_reads(session))
        outcome = await self._inserts.submit(self._engine.insert, session, insert)
        self._writes += 1
        self._metrics.inserted_bytes.inc(len(insert.payload))
        return await answer.whole(outcome, answer.ask.default_format)

    async def _query(self, answer: EngineResponse, run: _Run) -> web.StreamResponse:
        pipe: Pipe[QueryOutcome] = Pipe(_PIECES_AHEAD)
        future = self._queries.submit(self._feed, run, pipe)
        self._runs[run.session.tag] = run
        held_back = self._settings.warehouse_buffer
        if answer.ask.wait_for_end:
            held_back *= _WAIT_FACTOR
        try:
            first, complete = await _gather(pipe, held_back)
            if complete:
                response: web.StreamResponse = await answer.whole(first, run.form)
            else:
                response = await answer.flow(first, pipe, run.form)
            await future  # raises only for a bug in this program
        finally:
            pipe.abandon()
            future.cancel()  # if it is still queued, it never starts
            self._stop(run)
            del self._runs[run.session.tag]
        if run.kind == WRITE:
            self._writes += 1
        return response

    def _feed(self, run: _Run, pipe: Pipe[QueryOutcome]) -> None:
        """Run the statement and feed its result into the pipe, in a thread of the query lane."""
        run.started = True  # set before the pipe is checked: `_query` uses the other order
        try:
            if not pipe.abandoned:
                with closing(self._pieces(run)) as pieces:
                    pipe.feed(pieces)
        except Abandoned:
            pass
        finally:
            run.ended = True

    def _pieces(self, run: _Run) -> Generator[QueryOutcome]:
        engine, session = self._engine, run.session
        run.kind = engine.classify(run.sql)
        if run.kind == WRITE:
            if session.readonly:
                raise refusal(READONLY, _only_reads(session))
            yield engine.run(session, run.sql, run.form)
            return
        if session.reader:
            understood = engine.as_understood(run.sql)
            refuse_beyond_readers(understood, session.database, session.parameters)
        limits = engine.read_limits(session)
        if not flows(run.form):
            yield engine.run(session, run.sql, run.form, limits | engine.result_limits())
            return
        empty = True
        with closing(engine.stream(session, run.sql, run.form, limits)) as stream:
            named = repeats_names(run.form)
            for piece in without_repeated_names(stream, run.form) if named else stream:
                empty = False
                yield piece
        if empty and named:  # a stream without rows has no line of names either
            yield engine.run(session, run.sql, run.form, limits)

    def _stop(self, run: _Run) -> None:
        """Kill a statement that only reads; let a write that has begun finish."""
        if not run.started or run.ended or run.kind == WRITE:
            return
        task = asyncio.create_task(self._kill(run))
        self._stops.add(task)
        task.add_done_callback(self._stops.discard)

    async def _kill(self, run: _Run) -> None:
        # Repeated, because the statement may not have reached the engine yet.
        while not run.ended and run.kind != WRITE:
            try:
                await self._control.submit(self._engine.kill, run.session.tag)
            except EngineError as fault:
                self._log.warning("could not stop a query", code=fault.code)
            await asyncio.sleep(_KILL_AGAIN_SECONDS)


def _only_reads(session: EngineSession) -> str:
    if session.reader:
        return "This user may only read"
    return "GET is read-only; use POST for statements that change data"


async def _gather(pipe: Pipe[QueryOutcome], held_back: int) -> tuple[QueryOutcome, bool]:
    """Return (the beginning of the result as one piece, whether that is all of it)."""
    pieces: list[QueryOutcome] = []
    size = 0
    while size <= held_back:
        piece = await pipe.take()
        if piece is None:
            return _joined(pieces), True
        pieces.append(piece)
        size += len(piece.content)
    return _joined(pieces), False


def _joined(pieces: list[QueryOutcome]) -> QueryOutcome:
    if len(pieces) == 1:
        return pieces[0]
    return QueryOutcome(
        content=b"".join(piece.content for piece in pieces),
        read_rows=sum(piece.read_rows for piece in pieces),
        read_bytes=sum(piece.read_bytes for piece in pieces),
        result_rows=sum(piece.result_rows for piece in pieces),
    )
