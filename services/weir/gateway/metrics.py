"""The gateway's Prometheus metrics: a closed set, counted as plain numbers and handed over once a second."""

import os
from collections import Counter as Tally
from collections.abc import Collection

from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

from weir.core.retention import ALL

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own name for it

REQUESTS = Counter("weir_gateway_requests", "Requests answered", ["door", "status"])
PROBLEMS = Counter("weir_gateway_problems", "Requests rejected as a whole", ["code"])
EVENTS = Counter("weir_gateway_events", "Events by outcome", ["outcome"])
REFUSED = Counter("weir_gateway_refused_events", "Rejected events by reason", ["code"])
IGNORED_IDS = Counter(
    "weir_gateway_ignored_ids",
    "Ignored placeholder ids (`undefined`, `null`, `0`), by field",
    ["field"],
)
WARNED = Counter("weir_gateway_warned_events", "Warnings about accepted events in answers")
NOT_STORED = Counter(
    "weir_gateway_refused_events_not_stored",
    "Rejected events that are lost because no topic accepts them",
)
BODY_BYTES = Counter("weir_gateway_body_bytes", "Bytes of request bodies, decompressed")
ACK_SECONDS = Counter("weir_gateway_ack_wait_seconds", "Time that requests waited for the brokers")
IN_FLIGHT = Gauge(
    "weir_gateway_inflight_bytes", "Bytes of bodies in memory", multiprocess_mode="livesum"
)
UNREAD = Gauge(
    "weir_gateway_unread_bytes",
    "Bytes received that no request has read yet",
    multiprocess_mode="livesum",
)
CONNECTIONS = Gauge("weir_gateway_connections", "Open connections", multiprocess_mode="livesum")
GAVE_WAY = Counter(
    "weir_gateway_gave_way",
    "Closed or dropped to make room for others: a `connection`, a `body` or received bytes"
    " (`unread`); `refused`: connections that found no room",
    ["what"],
)
WAITING = Gauge(
    "weir_gateway_waiting_requests",
    "Requests that wait for the brokers",
    multiprocess_mode="livesum",
)
READY = Gauge(
    "weir_gateway_ready",
    "1 while the gateway is ready to accept events",
    multiprocess_mode="livemin",
)
RETENTION = Gauge(
    "weir_retention_share",
    "Share of its retention that the oldest unread record has used; 0 below 0.05",
    ["group", "topic"],
    multiprocess_mode="livemax",
)
RETENTION_FAILURES = Counter(
    "weir_retention_look_failures", "Failed checks of unread records, which changed nothing"
)
RETENTION_REFUSED = Gauge(
    "weir_retention_refused",
    "1 while new events of the source are rejected; `*`: of all sources; `(others)`: the number of further sources",
    ["source"],
    multiprocess_mode="livemax",
)
NAMED_SOURCES = 20  # sources with a label of their own; all others are OTHERS
OTHERS = "(others)"


class RefusedSources:
    """The rejected sources in the metrics: the first NAMED_SOURCES of a process's life have a label each."""

    def __init__(self) -> None:
        self._named = {ALL}

    def show(self, sources: Collection[str]) -> None:
        for source in sources:
            if len(self._named) <= NAMED_SOURCES:
                self._named.add(source)
        counts = Tally(source if source in self._named else OTHERS for source in sources)
        for name in (*self._named, OTHERS):
            RETENTION_REFUSED.labels(name).set(counts[name])


class Counts:
    """The counts since the last `hand_over`."""

    def __init__(self) -> None:
        self.requests: Tally[tuple[str, int]] = Tally()
        self.problems: Tally[str] = Tally()
        self.refused: Tally[str] = Tally()
        self.accepted = 0
        self.declined = 0
        self.warned = 0
        self.ignored_ids: Tally[str] = Tally()
        self.not_stored = 0
        self.body_bytes = 0
        self.ack_seconds = 0.0

    def hand_over(self) -> None:
        for (door, status), count in self.requests.items():
            REQUESTS.labels(door, str(status)).inc(count)
        for code, count in self.problems.items():
            PROBLEMS.labels(code).inc(count)
        for code, count in self.refused.items():
            REFUSED.labels(code).inc(count)
        if self.accepted:
            EVENTS.labels("accepted").inc(self.accepted)
        if self.refused:
            EVENTS.labels("rejected").inc(self.refused.total())
        if self.declined:
            EVENTS.labels("declined").inc(self.declined)
        WARNED.inc(self.warned)
        for field, count in self.ignored_ids.items():
            IGNORED_IDS.labels(field).inc(count)
        NOT_STORED.inc(self.not_stored)
        BODY_BYTES.inc(self.body_bytes)
        ACK_SECONDS.inc(self.ack_seconds)
        self.__init__()  # type: ignore[misc]  # back to zero


def exposition() -> bytes:
    """Return the text that Prometheus scrapes, for all processes that share the port."""
    if MULTIPROCESS_FOLDER not in os.environ:
        return bytes(generate_latest(PROCESS_REGISTRY))
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return bytes(generate_latest(registry))
