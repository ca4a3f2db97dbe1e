"""Each worker alone: its input is there already, and it has the machine but for the broker to itself."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.feed import preload
from tests.bench.input import accepted_records, sent_events
from tests.bench.measure import Probe, Watch, cpu_seconds, per_event
from tests.bench.stack import Member, Stack

WORKERS = ("dedup", "identity", "rates", "sink")
POLL_SECONDS = 0.1
QUIET_SECONDS = 2.0
DRAIN_SECONDS = 600.0

Say = Callable[[str], None]


@dataclass
class Drained:
    """What one process made of a full topic, from being ready to its last record."""

    events: int  # accounted: what the figures are divided by
    records: int  # read; more than the events where a stage writes to itself or reads other topics
    seconds: float
    events_per_second: float
    cpu_us_per_event: float
    rest_mib: float
    peak_mib: float
    start_cpu_seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_workers(folder: Path, count: int, only: set[str], say: Say) -> dict[str, Any]:
    """One after the other on one broker, each reading what the one before wrote.

    A stage that was not asked for but whose output is needed runs too, and is not reported.
    """
    last = max((WORKERS.index(name) for name in only if name in WORKERS), default=-1)
    results: dict[str, Any] = {}
    if last < 0:
        return results
    with Stack(folder) as stack:
        stack.apply_sources()
        say(f"preloading {count:,} events")
        sent = list(sent_events(count, int(time.time() * 1_000)))
        distinct = len({(event.source, event.idempotency_key) for event in sent})
        preload(stack.kafka, "events.accepted", accepted_records(iter(sent)))
        least = {"dedup": count, "identity": distinct, "rates": 1, "sink": distinct}
        for name in WORKERS[: last + 1]:
            if name == "rates" and "rates" not in only:
                continue
            say(f"{name} alone")
            drain = _sink if name == "sink" else _worker
            results[name] = drain(stack, name, count, least[name])
    return {name: result for name, result in results.items() if name in only}


def _worker(stack: Stack, name: str, events: int, least: int) -> dict[str, Any]:
    member = stack.start_ready(name)
    return _drain(stack, member, events, least, "weir_records_in_total").as_json()


def _sink(stack: Stack, name: str, events: int, least: int) -> dict[str, Any]:
    warehouse = stack.start_ready("warehouse")
    stack.migrate()
    member = stack.start_ready(name)
    with Watch({"warehouse": warehouse.pid}) as watch:
        drained = _drain(stack, member, events, least, "weir_records_out_total", outcome="inserted")
        use = watch.uses()["warehouse"]
    return {
        **drained.as_json(),
        "rows_per_second": drained.records / drained.seconds,
        "engine_cpu_us_per_event": per_event(use, events),
        "engine_peak_mib": use.peak_mib,
    }


def _drain(
    stack: Stack, member: Member, events: int, least: int, metric: str, **labels: str
) -> Drained:
    """Call when the process has just got ready; returns once it has counted at least `least` records

    and none for a while: a stage that writes to itself has more to read than anybody knows before.
    """
    start_cpu = cpu_seconds(member.pid)
    with Watch({member.name: member.pid}) as watch:
        records, seconds, cpu = _until_quiet(member, least, metric, labels)
        use = watch.uses()[member.name]
    stack.end(member)
    return Drained(
        events,
        records,
        seconds,
        events / seconds,
        (cpu - start_cpu) * 1e6 / events,
        use.rest_mib,
        use.peak_mib,
        start_cpu,
    )


def _until_quiet(
    member: Member, least: int, metric: str, labels: dict[str, str]
) -> tuple[int, float, float]:
    """Records counted, seconds until the last of them was, and CPU time used by then."""
    began = changed = time.monotonic()
    seen, cpu = 0, cpu_seconds(member.pid)
    while time.monotonic() - changed < QUIET_SECONDS or seen < least:
        if time.monotonic() - began > DRAIN_SECONDS:
            raise TimeoutError(f"{member.name} is not through after {DRAIN_SECONDS:g} s")
        if not member.process.running:
            raise RuntimeError(f"{member.name} ended:\n{member.process.said()[-2_000:]}")
        count = _count(member.probe, metric, labels)
        if count > seen:
            seen, changed, cpu = count, time.monotonic(), cpu_seconds(member.pid)
        time.sleep(POLL_SECONDS)
    return seen, changed - began, cpu


def _count(probe: Probe, metric: str, labels: dict[str, str]) -> int:
    return int(probe.total(metric, **labels))
