"""The gateway alone, against a real broker: batches, and single events on few and many connections."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from tests.bench.input import SOURCES, write_key
from tests.bench.load import Load, run_apart
from tests.bench.measure import Watch
from tests.bench.stack import Stack
from tests.bench.stages import Say

BATCH = 100
CASES = (("batches of 100", 32, BATCH), ("single, 32", 32, 1), ("single, 256", 256, 1))


def measure_gateway(folder: Path, quick: bool, say: Say) -> dict[str, Any]:
    """Each case in turn, with ids that were not used before."""
    results: dict[str, Any] = {}
    with Stack(folder) as stack:
        stack.apply_sources()
        gateway = stack.start_ready("gateway")
        next_id = 0
        for name, connections, batch in CASES:
            say(f"gateway alone: {name}")
            with Watch({"gateway": gateway.pid}) as watch:
                load = Load(
                    url=f"http://127.0.0.1:{gateway.probe.port}/v1/events",
                    key=write_key(SOURCES[0]),
                    connections=connections,
                    batch=batch,
                    seconds=2.0 if quick else 10.0,
                    gateway_pids=family(gateway.pid),
                    first_id=next_id,
                )
                result = run_apart(load)
                use = watch.uses()["gateway"]
            next_id = result.first_unused_id
            results[name] = {
                **asdict(result),
                "cpu_us_per_event": result.gateway_cpu_us_per_event,
                "rest_mib": use.rest_mib,
                "peak_mib": use.peak_mib,
            }
    return results


def family(pid: int) -> tuple[int, ...]:
    """A process and all that it started."""
    children = psutil.Process(pid).children(recursive=True)
    return (pid, *(child.pid for child in children))
