"""What an event costs the gateway at each door, next to `/v1/events` in the same minutes."""

import statistics
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.gateway import BATCH, family
from tests.bench.input import SOURCES, signing_secret, write_key
from tests.bench.load import Load, LoadResult, run_apart
from tests.bench.stack import Member, Stack
from tests.bench.stages import Say
from tests.bench.wires import WIRES, Sender, path_of

CONNECTIONS = 32
ROUNDS = 3  # each door's turn comes this often, so that a busy minute is not one door's alone
SECONDS = 4.0
BASE = "events"  # what the others are compared with
BATCHED = (BASE, "userflux", "tracardi", "segment")
SINGLE = (BASE, "suprsend", "hitkeep", "hackle", "cloudevents", "webhook")
CASES = (*((name, BATCH) for name in BATCHED), *((name, 1) for name in SINGLE))


@dataclass(frozen=True)
class Turn:
    """One door's share of a round."""

    wire: str
    batch: int
    result: LoadResult


def measure_doors(folder: Path, quick: bool, say: Say) -> list[dict[str, Any]]:
    """A row a door: the medians of its turns, and its CPU time over that of `/v1/events`."""
    turns: list[Turn] = []
    with Stack(folder) as stack:
        stack.apply_sources()
        gateway = stack.start_ready("gateway")
        next_id = 0
        rounds = 1 if quick else ROUNDS
        for number in range(rounds):
            for wire, batch in CASES:
                say(f"doors, round {number + 1} of {rounds}: {wire}, {batch} a request")
                measured = _send(gateway, wire, batch, 1.0 if quick else SECONDS, next_id)
                next_id = measured.first_unused_id
                turns.append(Turn(wire, batch, measured))
        _require_all_accepted(gateway)
    return [_row(turns, wire, batch) for wire, batch in CASES]


def _send(gateway: Member, wire: str, batch: int, seconds: float, first_id: int) -> LoadResult:
    source = SOURCES[0]
    sender = Sender(source, write_key(source), signing_secret(source))
    load = Load(
        url=f"http://127.0.0.1:{gateway.probe.port}{path_of(WIRES[wire], sender)}",
        key=sender.key,
        connections=CONNECTIONS,
        batch=batch,
        seconds=seconds,
        gateway_pids=family(gateway.pid),
        first_id=first_id,
        wire=wire,
        source=sender.source,
        secret=sender.secret,
    )
    result = run_apart(load)
    if not result.events:
        raise RuntimeError(f"{wire}: no request was answered well: {result.statuses}")
    return result


def _require_all_accepted(gateway: Member) -> None:
    """An event that is refused costs something else than one that is taken."""
    url = f"http://127.0.0.1:{gateway.probe.port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    refused = [line for line in lines if line.startswith("weir_gateway_refused_events_total{")]
    if refused:
        raise RuntimeError(f"events were refused: {refused}")


def _row(turns: list[Turn], wire: str, batch: int) -> dict[str, Any]:
    def median(name: str, of: str) -> float:
        its = [turn.result for turn in turns if (turn.wire, turn.batch) == (of, batch)]
        return statistics.median(float(getattr(result, name)) for result in its)

    cpu = median("gateway_cpu_us_per_event", wire)
    return {
        "door": wire,
        "path": WIRES[wire].path,
        "batch": batch,
        "events_per_second": median("events_per_second", wire),
        "p50_ms": median("p50_ms", wire),
        "cpu_us_per_event": cpu,
        "cpu_ratio": cpu / median("gateway_cpu_us_per_event", BASE),
    }
