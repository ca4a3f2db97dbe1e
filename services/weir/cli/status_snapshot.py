"""Snapshots for `weir status`: processes, groups, sources, Kafka and ClickHouse, as plain values."""

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil

from weir.adapters.avro import decode_any
from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.errors import RefusedError, UnavailableError
from weir.adapters.kafka.admin import KafkaAdmin, Lag
from weir.adapters.kafka.clients import Entry, TableReader
from weir.adapters.kafka.retention import KafkaRetention
from weir.adapters.kafka.table_entries import apply_entries
from weir.core import topics
from weir.core.retention import RetentionPolicy
from weir.core.stages import GROUPS
from weir.settings.shared import ClickHouseSettings, KafkaSettings

UP_FILE = "up.json"
PROBE_SECONDS = 1.0
QUOTA_REST_MS = 200
RETENTION_SECONDS = 10.0  # between two checks of how old unread records are
QUIET_MS = 120_000  # a source without a count for so long sends nothing


class ProcessEntry(msgspec.Struct, frozen=True):
    """One process, as `weir up` records it in its file."""

    name: str
    pid: int
    instance: int = 0
    metrics_port: int = 0
    scheme: str = "http"


@dataclass(frozen=True)
class ProcessStatus:
    name: str
    instance: int
    pid: int
    health: str  # ready, or why not
    cpu_percent: float  # of one core, since the previous snapshot
    memory_mb: float


@dataclass(frozen=True)
class GroupStatus:
    group: str
    instances: int
    lag: int  # records
    rate: float  # records a second that it has committed since the previous snapshot
    arriving: float  # records a second written to its topics since the previous snapshot
    held: int = 0  # of the lag, behind transactions that were open in the previous snapshot, too
    held_in: tuple[str, ...] = ()  # the topics of these records


@dataclass(frozen=True)
class SourceStatus:
    source: str
    rate: float  # events a second over the latest full minute
    peak: float
    quotas: list[dict[str, Any]]


@dataclass(frozen=True)
class RetentionStatus:
    """Unread records that are close to deletion, and the sources whose events gateways reject because of it."""

    group: str
    topic: str
    share: float  # of the retention, used by the oldest unread record
    refused: tuple[str, ...] = ()  # `*`: all sources


@dataclass(frozen=True)
class StatusSnapshot:
    """One snapshot. An empty `kafka` or `clickhouse` means that it answers; else the text says why not."""

    at: float
    kafka: str
    clickhouse: str
    stored: int  # rows in events
    processes: list[ProcessStatus]
    groups: list[GroupStatus]
    sources: list[SourceStatus]
    behind: list[RetentionStatus] = field(default_factory=list)  # nearest to deletion first


class StatusCollector:
    """Takes snapshots. Rates are computed between two snapshots, so the first one has none."""

    def __init__(
        self,
        kafka: KafkaSettings,
        clickhouse: ClickHouseSettings,
        folder: Path,
        policy: RetentionPolicy,
    ) -> None:
        """`policy`: the retention policy of the gateways."""
        self._kafka_settings = kafka
        self._clickhouse_settings = clickhouse
        self._retention = KafkaRetention(kafka, policy.named_from)
        self._policy = policy
        self._behind: list[RetentionStatus] = []
        self._behind_at = -RETENTION_SECONDS
        self._up_file = folder / UP_FILE
        self._admin: KafkaAdmin | None = None
        self._clickhouse: ClickHouse | None = None
        self._quotas: TableReader | None = None
        self._usage: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, tuple[float, int, int]] = {}  # group: (time, position, end)
        self._held: dict[str, set[tuple[str, int, int]]] = {}  # group: (topic, partition, offset)
        self._processes: dict[int, psutil.Process] = {}

    def snapshot(self) -> StatusSnapshot:
        kafka, groups, sources, behind = "", [], [], []
        try:
            groups = self._groups()
            sources = self._sources()
            behind = self._near()
        except (UnavailableError, RefusedError) as error:
            kafka = str(error)
            self._admin = None
        clickhouse, stored = self._stored()
        children = self._children()
        return StatusSnapshot(
            time.time(), kafka, clickhouse, stored, children, groups, sources, behind
        )

    def close(self) -> None:
        if self._admin is not None:
            self._admin.close()
        if self._quotas is not None:
            self._quotas.close()

    def _groups(self) -> list[GroupStatus]:
        if self._admin is None:
            self._admin = KafkaAdmin(self._kafka_settings)
        lags = self._admin.lags(GROUPS)
        now = time.monotonic()
        return [
            self._group(name, [lag for lag in lags if lag.group == name], now) for name in GROUPS
        ]

    def _group(self, name: str, lags: list[Lag], now: float) -> GroupStatus:
        position = sum(max(0, lag.position) for lag in lags)
        end = sum(lag.end for lag in lags)
        before = self._seen.get(name)
        self._seen[name] = (now, position, end)
        rate = arriving = 0.0
        if before is not None and now > before[0]:
            seconds = now - before[0]
            rate = max(0, position - before[1]) / seconds
            arriving = max(0, end - before[2]) / seconds
        instances = len({lag.client for lag in lags if lag.client})
        # workers always have short transactions open: count only those in two snapshots
        held = {(lag.topic, lag.partition, lag.held_from): lag.held for lag in lags if lag.held}
        still = held.keys() & self._held.get(name, set())
        self._held[name] = set(held)
        return GroupStatus(
            name,
            instances,
            sum(lag.records for lag in lags),
            rate,
            arriving,
            sum(held[place] for place in still),
            tuple(sorted({topic for topic, _, _ in still})),
        )

    def _near(self) -> list[RetentionStatus]:
        if time.monotonic() - self._behind_at >= RETENTION_SECONDS:
            near = [
                RetentionStatus(one.group, one.topic, one.share, self._policy.refused(one))
                for one in self._retention.measure(GROUPS)
                if one.near(self._policy.report_from)
            ]
            self._behind = sorted(near, key=lambda behind: -behind.share)
            self._behind_at = time.monotonic()
        return self._behind

    def _sources(self) -> list[SourceStatus]:
        assert self._admin is not None
        if self._quotas is None:
            if topics.QUOTAS not in self._admin.topics(with_config=False):
                return []
            self._quotas = TableReader(self._kafka_settings, topics.QUOTAS, QUOTA_REST_MS)
            self._quotas.read_all(lambda *entry: self._keep_usages([entry]))
        self._keep_usages(self._quotas.poll(0.05))
        now = int(time.time() * 1_000)
        return [source_status(name, usage, now) for name, usage in sorted(self._usage.items())]

    def _keep_usages(self, entries: Iterable[Entry]) -> None:
        apply_entries(topics.QUOTAS, entries, self._keep_usage)

    def _keep_usage(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._usage.pop(key.decode(), None)
            return
        name, usage = decode_any(value)
        if name == "SourceUsage":  # the topic also holds the internal state of rates
            self._usage[usage["source"]] = usage

    def _stored(self) -> tuple[str, int]:
        try:
            if self._clickhouse is None:
                self._clickhouse = ClickHouse(self._clickhouse_settings)
            table = f"{self._clickhouse_settings.clickhouse_database}.events"
            return "", self._clickhouse.ask(f"SELECT count() FROM {table}").rows[0][0]
        except UnavailableError as error:
            self._clickhouse = None
            return str(error), 0
        except RefusedError as error:
            return str(error), 0

    def _children(self) -> list[ProcessStatus]:
        children = read_children(self._up_file)
        if not children:
            return []
        with ThreadPoolExecutor(len(children)) as pool:
            healths = list(pool.map(probe, children))
        return [self._child(c, health) for c, health in zip(children, healths, strict=True)]

    def _child(self, child: ProcessEntry, health: str) -> ProcessStatus:
        try:
            process = self._processes.setdefault(child.pid, psutil.Process(child.pid))
            cpu, memory = process.cpu_percent(), process.memory_info().rss / 1e6
        except psutil.NoSuchProcess:
            self._processes.pop(child.pid, None)
            health, cpu, memory = "has ended", 0.0, 0.0
        return ProcessStatus(child.name, child.instance, child.pid, health, cpu, memory)


def read_children(path: Path) -> list[ProcessEntry]:
    """Return the processes of `weir up`, or an empty list if it does not run on this data folder."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[ProcessEntry])
    except (OSError, msgspec.DecodeError):
        return []


def probe(child: ProcessEntry) -> str:
    """Return `ready`, or the reason that `/readyz` gives; `running` for a process without that endpoint."""
    if not child.metrics_port:
        return "running"
    # unverified: the loopback address need not be in the certificate, and no secret is sent
    context = ssl._create_unverified_context() if child.scheme == "https" else None
    address = f"{child.scheme or 'http'}://127.0.0.1:{child.metrics_port}/readyz"
    try:
        with urllib.request.urlopen(address, timeout=PROBE_SECONDS, context=context):
            return "ready"
    except urllib.error.HTTPError as error:
        if error.code == 404:  # ClickHouse answers, but has no such endpoint
            return "running"
        return _reason(error.read()) or f"not ready ({error.code})"
    except OSError:
        return "does not answer"


def _reason(body: bytes) -> str:
    """Return the reason in a body: a worker sends plain text, the gateway a problem document."""
    text = body.decode(errors="replace").strip()
    try:
        problem = json.loads(text)
    except ValueError:
        return text[:200]
    if isinstance(problem, Mapping):
        return str(problem.get("detail") or problem.get("title") or "")[:200]
    return text[:200]


def source_status(name: str, usage: Mapping[str, Any], now: int) -> SourceStatus:
    """Return a source's status at `now` (epoch milliseconds). An old rate and an ended quota period count as 0."""
    quiet = usage["updated_at"] < now - QUIET_MS
    quotas = [
        quota if now < quota["resets_at"] else {**quota, "used": 0, "exceeded": False}
        for quota in usage["quotas"]
    ]
    return SourceStatus(name, 0.0 if quiet else usage["current_rate"], usage["peak_rate"], quotas)
