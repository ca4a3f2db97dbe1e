"""One gateway process: it listens, serves, and on SIGTERM finishes requests under way before it ends."""

import asyncio
import ipaddress
import signal
import socket
from typing import NamedTuple

from weir.adapters.kafka.clients import Entry
from weir.adapters.kafka.producer import DurableProducer, ProducerOptions
from weir.adapters.kafka.record_limits import LimitsFollower
from weir.adapters.kafka.retention import KafkaRetention
from weir.adapters.kafka.schema_announcements import SchemasTopic
from weir.adapters.kafka.table_follower import Apply, TableFollower, TailFollower, TopicFollower
from weir.core import topics
from weir.core.record_limits import RecordLimits
from weir.core.stages import GROUPS
from weir.erasure.topic import Erasures
from weir.event_status.lookup import EventStatusLookup
from weir.gateway.api.counting import GoalCounter
from weir.gateway.api.finding import EventFinder
from weir.gateway.api.goal_counts import GoalCounts
from weir.gateway.api.shared_goals import SharedGoals
from weir.gateway.app import App
from weir.gateway.app_context import AppContext
from weir.gateway.http.body_budget import BodyBudget
from weir.gateway.http.connection_limits import ConnectionSlots, ReadAhead
from weir.gateway.http.connections import BodyTurns, ConnectionLimits, Server
from weir.gateway.http.rate_limits import ClientBuckets, Proxies
from weir.gateway.http.tls import Tls
from weir.gateway.ingest.backlog_guard import RetentionGuard
from weir.gateway.ingest.producer import GatewayProducer
from weir.gateway.ingest.receipts import Receipts
from weir.gateway.metrics import Counts
from weir.gateway.registry_copy import Registry
from weir.registry.goal_log import GoalLog
from weir.registry.secret_encryption import SecretEncryption
from weir.runtime import gc_tuning, logs, malloc_tuning
from weir.runtime.open_files import raise_open_files
from weir.settings.environment import SettingsError
from weir.settings.gateway import GatewaySettings
from weir.settings.shared import ClickHouseSettings, KafkaSettings

BACKLOG = 1_024
READ_AHEAD_BYTES = 256 * 1024  # of a body that are buffered before its connection is paused
READ_AHEAD_PART = 4  # unread bytes in all, at most: the memory for bodies divided by this
OTHER_FILES = 128  # open files at most besides connections: brokers, ClickHouse, logs
HANDSHAKE_SECONDS = 10.0  # time limit of a TLS handshake
LINGER_SECONDS = 2.0  # how long the rest of a rejected body is read and discarded


def listen(host: str, port: int, shared: bool) -> socket.socket:
    """Return a bound socket; `shared`: other processes may bind the port too, the kernel spreads connections."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def connection_limits(
    settings: GatewaySettings, proxies: Proxies, loop: asyncio.AbstractEventLoop
) -> ConnectionLimits:
    most = raise_open_files(settings.gateway_connections + OTHER_FILES) - OTHER_FILES
    if most < settings.gateway_connections:
        logs.get("gateway").warning(
            "fewer connections than WEIR_GATEWAY_CONNECTIONS: the system allows no more open files",
            connections=most,
        )
    return ConnectionLimits(
        ConnectionSlots(max(1, most), settings.gateway_connections_per_address),
        ReadAhead(settings.gateway_inflight_kilobytes * 1024 // READ_AHEAD_PART, loop.call_soon),
        settings.gateway_header_bytes,
        proxies,
        BodyTurns(),
    )


class Listening(NamedTuple):
    """The socket on which a process listens, and its TLS settings."""

    bound: socket.socket
    tls: Tls | None  # None: plain HTTP


class Process:
    """All parts of one gateway process."""

    def __init__(
        self,
        settings: GatewaySettings,
        kafka: KafkaSettings,
        clickhouse: ClickHouseSettings,
        sealing: SecretEncryption,
        listening: Listening,
    ) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._log = logs.get("gateway")
        self._stop = asyncio.Event()
        self.fault = ""
        options = ProducerOptions(
            settings.gateway_linger_ms,
            settings.gateway_ack_seconds,
            settings.gateway_queue_kilobytes,
            self._end_by_fault,
        )
        self._counting = GoalCounter(GoalCounts(clickhouse))
        self._goals = SharedGoals(GoalLog(kafka))
        self._finding = EventFinder(EventStatusLookup(kafka, clickhouse))
        policy = settings.retention
        retention = KafkaRetention(kafka, policy.named_from)
        self._guard = RetentionGuard(
            lambda: retention.measure(GROUPS), settings.retention_look_seconds, policy
        )
        self._registry = registry = Registry(settings.gateway_processes, sealing)
        receipts = Receipts()
        erasures = Erasures()
        self._limits = LimitsFollower(kafka, "gateway", self._renew_producer)
        self._output = DurableProducer(kafka, options)
        self._producer = GatewayProducer(self._output, self._loop, self._limits)
        self._context = AppContext(
            settings,
            registry,
            self._producer,
            ClientBuckets(settings.ingest_rate, settings.ingest_burst),
            Proxies(settings.trusted_proxies),
            BodyBudget(
                settings.gateway_inflight_kilobytes * 1024, 2 * settings.gateway_max_body_bytes
            ),
            Counts(),
            receipts,
            self._counting,
            self._finding,
            self._guard,
            erasures,
            self._limits,
            self._goals,
        )
        self._connections = connection_limits(settings, self._context.proxies, self._loop)
        self._app = App(self._context, self._connections)
        self._schemas = SchemasTopic(kafka)
        self._followers: list[TopicFollower] = [
            TableFollower(kafka, topics.REGISTRY, self._in_loop(registry.apply_sources)),
            TableFollower(kafka, topics.QUOTAS, self._in_loop(registry.apply_usage)),
            TableFollower(kafka, topics.ERASURES, self._in_loop(erasures.apply)),
            TailFollower(kafka, topics.RECEIPTS, self._in_loop(receipts.apply)),
        ]
        self._bound, self._tls = listening

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or a fatal producer error; then drain for up to `gateway_drain_seconds`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        for follower in self._followers:
            follower.start()
        self._guard.start()
        self._limits.start()
        self._producer.start()
        self._every_second()
        server = Server(
            self._app,
            self._connections,
            access_log=None,
            keepalive_timeout=self._settings.gateway_idle_seconds,
            lingering_time=LINGER_SECONDS,
            read_bufsize=READ_AHEAD_BYTES,
            auto_decompress=False,
        )
        gc_tuning.freeze()
        malloc_tuning.give_back_large_blocks()
        listener = await self._loop.create_server(
            server,
            sock=self._bound,
            backlog=BACKLOG,
            ssl=self._tls.context if self._tls else None,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if self._tls else None,
        )
        self._log_address()
        await self._stop.wait()
        await self._drain(listener, server)

    def _log_address(self) -> None:
        address = self._bound.getsockname()[:2]
        self._log.info("listening", address=address, tls=self._tls is not None)
        if self._tls is None and not ipaddress.ip_address(address[0]).is_loopback:
            self._log.warning(
                "keys and events are sent without encryption: set WEIR_GATEWAY_TLS_CERT and"
                " WEIR_GATEWAY_TLS_KEY, unless a proxy in front of the gateway uses TLS"
            )

    def _reload(self) -> None:
        """Serve a renewed certificate from the next connection on. Called on SIGHUP."""
        if self._tls is None:
            return
        try:
            self._tls.reload()
            self._log.info("certificate reloaded")
        except SettingsError as fault:
            self._log.error(
                "the new certificate cannot be used; the old one stays in use", fault=str(fault)
            )

    async def _drain(self, listener: asyncio.AbstractServer, server: Server) -> None:
        self._app.draining = True
        self._log.info("draining")
        listener.close()
        finished = await server.drain(self._settings.gateway_drain_seconds)
        for follower in self._followers:
            follower.stop()
        self._guard.stop()
        self._limits.stop()
        self._counting.close()
        self._finding.close()
        self._goals.close()
        left = self._producer.close(self._settings.gateway_ack_seconds)
        self._log.info("stopped", unacknowledged=left, finished=finished)

    def _in_loop(self, apply: Apply) -> Apply:
        def hand_over(entries: list[Entry]) -> None:
            # in this thread, which may block: announce our schemas, and read those of the entries
            self._schemas.know(value for _, value in entries)
            self._loop.call_soon_threadsafe(apply, entries)

        return hand_over

    def _renew_producer(self, limits: RecordLimits) -> None:
        """Limit produce batches to what the smallest topic allows: brokers refuse a larger batch as a whole."""
        self._loop.call_soon_threadsafe(self._output.limit_batches, limits.batch)

    def _every_second(self) -> None:
        self._app.hand_over_counts()
        self._registry.end_keys()
        malloc_tuning.give_back_free_heap()
        self._loop.call_later(1.0, self._every_second)

    def _end_by_fault(self, fault: str) -> None:
        """Stop after a fatal error of the producer: it can write no more, so the process must be restarted."""
        self.fault = fault
        self._log.error("the producer failed permanently", fault=fault)
        self._loop.call_soon_threadsafe(self._stop.set)
