"""The gateway without sockets, broker and engine: bytes of a connection in, answers and records out.

Everything between the socket and the producer is the gateway's own: HTTP parser, loop over requests,
routes, doors, pages. Behind its ports are plain values.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tests.support.goals import GoalsInMemory
from weir.adapters import avro
from weir.adapters.kafka.record_limits import LimitsFollower
from weir.core.registry import Goal, Source
from weir.core.retention import RetentionPolicy
from weir.erasure.topic import Erasures
from weir.event_status.model import EventStatus
from weir.gateway.api.counting import GoalCounter
from weir.gateway.api.finding import EventFinder
from weir.gateway.api.goal_counts import GoalBucket, GoalCount, TimeRange
from weir.gateway.api.shared_goals import SharedGoals
from weir.gateway.app import App
from weir.gateway.app_context import AppContext
from weir.gateway.http.body_budget import BodyBudget
from weir.gateway.http.connections import Server
from weir.gateway.http.rate_limits import ClientBuckets, Proxies
from weir.gateway.ingest.backlog_guard import RetentionGuard
from weir.gateway.ingest.producer import GatewayProducer, KafkaRecord
from weir.gateway.ingest.receipts import Receipts
from weir.gateway.metrics import Counts
from weir.gateway.registry_copy import Registry
from weir.gateway.server import READ_AHEAD_BYTES, connection_limits
from weir.registry.follower import registry_key
from weir.settings.gateway import GatewaySettings
from weir.settings.shared import KafkaSettings

PATIENCE_SECONDS = 0.05  # what a body that does not come is waited for
HANG_SECONDS = 20.0
SETTLED = 20  # turns of the loop in which nothing happens: nothing will


class Log:
    """`producer.Output` on a list: what is written is durable at the loop's next turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.records: list[KafkaRecord] = []
        self.write: Callable[..., None] = self._write
        self.poll: Callable[[float], int] = lambda _seconds: 0
        self._loop = loop

    def _write(
        self,
        topic: str,
        value: bytes,
        key: bytes,
        _partition: int,
        acknowledge: Callable[[object, object], None],
        *_more: object,
    ) -> None:
        self.records.append((topic, key, value))
        self._loop.call_soon(acknowledge, None, None)

    def flush(self, seconds: float) -> int:
        return 0

    def __len__(self) -> int:
        return 0


class Nowhere:
    """`finding.Finds` of a Weir in which no event is."""

    def find(self, sought: str, _scope: tuple[str, ...] | None, _seconds: float) -> EventStatus:
        return EventStatus(id=sought, fate="unknown")


class Noughts:
    """`counting.Counts` of a site that nobody visits."""

    def stats(self, _site_id: str, goals: Sequence[Goal], _span: TimeRange) -> list[GoalCount]:
        return [GoalCount(goal.id, 0, 0, 0) for goal in goals]

    def timeseries(self, *_question: object) -> list[GoalBucket]:
        return []


class Socket(asyncio.Transport):
    """What is written to it is kept; never full."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        """Nothing more is sent anyway."""

    resume_reading = pause_reading


class Inside:
    """One such gateway. `sources` are its registry: their keys are hashed already."""

    def __init__(self, sources: Sequence[Source], **settings: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.faults: list[str] = []
        self.loop.set_exception_handler(self._note)
        self._server = self.loop.run_until_complete(self._begin(sources, settings))

    async def _begin(self, sources: Sequence[Source], settings: dict[str, Any]) -> Server:
        own = GatewaySettings(gateway_body_seconds=PATIENCE_SECONDS, **settings)
        self.log = Log(self.loop)
        limits = LimitsFollower(KafkaSettings(), "gateway")  # not started: Weir's own
        producer = GatewayProducer(self.log, self.loop, limits)
        registry = Registry()
        registry.apply_sources(_entry(source) for source in sources)
        self.budget = BodyBudget(
            own.gateway_inflight_kilobytes * 1024, 2 * own.gateway_max_body_bytes
        )
        self._world = AppContext(
            own,
            registry,
            producer,
            ClientBuckets(0, 1),
            Proxies(()),
            self.budget,
            Counts(),
            Receipts(),
            GoalCounter(Noughts()),
            EventFinder(Nowhere()),
            RetentionGuard(list, 1, RetentionPolicy(0, 0)),
            Erasures(),
            limits,
            SharedGoals(GoalsInMemory()),
        )
        producer.start()
        connections = connection_limits(own, self._world.proxies, self.loop)
        return Server(
            App(self._world, connections),
            connections,
            access_log=None,
            keepalive_timeout=own.gateway_idle_seconds,
            lingering_time=PATIENCE_SECONDS,
            read_bufsize=READ_AHEAD_BYTES,
            auto_decompress=False,
        )

    def exchange(self, pieces: Sequence[bytes]) -> tuple[bytes, list[KafkaRecord]]:
        """What a connection that sends these pieces is answered, and the records that come of it.

        `TimeoutError`: it hangs. `AssertionError`: an exception went past the gateway's own answers.
        """
        self.log.records = []
        self.faults.clear()
        self._world.producer.acknowledged_at = time.monotonic()
        answered = self.loop.run_until_complete(self._exchange(pieces))
        assert not self.faults, self.faults
        assert self.budget.taken == 0, "the budget of bodies is not given back"
        return answered, self.log.records

    async def _exchange(self, pieces: Sequence[bytes]) -> bytes:
        socket = Socket()
        connection = self._server()
        connection.connection_made(socket)
        for piece in pieces:
            if socket.closed:
                break
            connection.data_received(piece)
            await asyncio.sleep(0)
        async with asyncio.timeout(HANG_SECONDS):
            quiet = 0
            while not socket.closed and quiet < SETTLED:
                await asyncio.sleep(0.001 if connection.is_busy else 0)
                quiet = 0 if connection.is_busy else quiet + 1
        connection.connection_lost(None)
        await asyncio.sleep(0)
        return bytes(socket.written)

    def close(self) -> None:
        self._world.counting.close()
        self._world.finding.close()
        self._world.goals.close()
        self.loop.run_until_complete(self._server.shutdown(0))
        self._world.producer.close(0)
        self.loop.close()

    def _note(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(f"{context['message']}: {context.get('exception')!r}")


def _entry(source: Source) -> tuple[bytes, bytes]:
    record = {
        "kind": "source",
        "id": source.id,
        "document": msgspec.json.encode(source).decode(),
        "updated_at": 0,
    }
    return registry_key("source", source.id), avro.schemas()["RegistryEntry"].encode(record)
