"""The whole chain: at rest, at a steady rate, and draining a full topic. Broker and engine included."""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.feed import preload
from tests.bench.input import SEED, accepted_records, sent_events
from tests.bench.latency import measure_latency
from tests.bench.measure import Watch, per_event
from tests.bench.stack import Stack
from tests.support.running import bare_environ, start_process, wait_until
from weir.adapters.clickhouse.query import ClickHouse
from weir.embedded.ports import free_port

RATES = (10, 200, 2_000)
DRAIN_SECONDS = 900.0
UP_SECONDS = 180.0
COUNT_SECONDS = 0.1

Say = Callable[[str], None]


def measure_chain(folder: Path, count: int, quick: bool, say: Say) -> dict[str, Any]:
    """Idle, latency, then draining, on one and the same set of processes."""
    with Stack(folder) as stack:
        stack.apply_sources()
        say("the whole chain: starting")
        warehouse = stack.start_ready("warehouse")
        stack.migrate()
        members = [stack.start(name) for name in ("dedup", "identity", "rates", "sink")]
        gateway = stack.start("gateway")
        for member in (*members, gateway):
            stack.wait_ready(member)
        result: dict[str, Any] = {"idle": _idle(stack, 3.0 if quick else 30.0, say), "latency": []}
        for number, rate in enumerate(RATES):
            say(f"the whole chain: latency at {rate:,} events/s")
            seconds = 3.0 if quick else 20.0
            with Watch(stack.pids) as watch:
                latency = measure_latency(
                    gateway.probe.port, warehouse.probe.port, rate, seconds, SEED + number
                )
                latency["processes"] = _uses(watch, int(rate * seconds))
            result["latency"].append(latency)
        # dedup starts last: until then the events wait in front of the chain
        stack.end(members[0])
        result["drain"] = _drain(stack, count, say)
    return result


def _idle(stack: Stack, seconds: float, say: Say) -> dict[str, Any]:
    say(f"the whole chain: at rest for {seconds:.0f} s")
    time.sleep(min(seconds, 5.0))  # what starting left behind is settled
    with Watch(stack.pids) as watch:
        time.sleep(seconds)
        watched = watch.seconds
        return {
            name: {"percent": 100 * use.cpu_seconds / watched, "rest_mib": use.peak_mib}
            for name, use in watch.uses().items()
        }


def _uses(watch: Watch, events: int) -> dict[str, Any]:
    return {
        name: {
            "cpu_us_per_event": per_event(use, events),
            "cpu_percent": 100 * use.cpu_seconds / watch.seconds,
            "peak_mib": use.peak_mib,
        }
        for name, use in watch.uses().items()
    }


def _drain(stack: Stack, count: int, say: Say) -> dict[str, Any]:
    """From dedup's being ready until the last event is a row. Repeats count: they are worked off too."""
    clickhouse = ClickHouse(stack.clickhouse)
    before = _rows(clickhouse)
    say(f"the whole chain: preloading {count:,} events")
    sent = list(sent_events(count, int(time.time() * 1_000)))
    distinct = len({(event.source, event.idempotency_key) for event in sent})
    preload(stack.kafka, "events.accepted", accepted_records(iter(sent)))
    say("the whole chain: draining")
    stack.start_ready("dedup")
    with Watch(stack.pids) as watch:

        def through() -> bool:
            time.sleep(COUNT_SECONDS)
            return _rows(clickhouse) - before >= distinct

        wait_until(through, DRAIN_SECONDS, f"{distinct:,} rows")
        seconds = watch.seconds
        processes = _uses(watch, count)
    return {
        "events": count,
        "rows": _rows(clickhouse) - before,
        "seconds": seconds,
        "events_per_second": count / seconds,
        "processes": processes,
    }


def _rows(clickhouse: ClickHouse) -> int:
    (row,) = clickhouse.records("SELECT count() AS rows FROM weir.events")
    return int(row["rows"])


def measure_up(folder: Path, say: Say) -> dict[str, Any]:
    """`weir up` in a new folder (first), and again in the same (warm): seconds until all is ready."""
    try:
        seconds = []
        for what in ("first", "warm"):
            say(f"`weir up`: {what} start")
            seconds.append(_up_once(folder))
        return {"first_seconds": seconds[0], "seconds": seconds[1]}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _up_once(folder: Path) -> float:
    ports = {f"WEIR_{name}_PORT": str(free_port()) for name in ("GATEWAY", "CLICKHOUSE", "KAFKA")}
    environ = bare_environ(WEIR_DATA_DIR=str(folder), WEIR_METRICS_BASE_PORT="0", **ports)
    log = folder / "up.log"
    said = len(log.read_text()) if log.exists() else 0
    began = time.monotonic()
    up = start_process([sys.executable, "-m", "weir.embedded.up.__main__"], log, environ)

    def is_up() -> bool:
        if not up.running:
            raise RuntimeError(f"`weir up` ended:\n{up.said()[said:]}")
        return "Weir is up" in up.said()[said:]

    try:
        wait_until(is_up, UP_SECONDS, "weir up")
        return time.monotonic() - began
    finally:
        up.stop()
