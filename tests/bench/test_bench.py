"""A quick benchmark run measures a stage and writes its report; no speed is asserted."""

import json
import sys
from pathlib import Path

from tests.support.running import bare_environ, start_process, wait_until

BENCH = [sys.executable, "-m", "tests.bench", "--quick", "--only", "dedup"]


def test_a_quick_run_measures_a_stage_and_writes_json(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    bench = start_process([*BENCH, "--out", str(out)], tmp_path / "bench.log", bare_environ())
    try:
        wait_until(lambda: not bench.running, 120, "the benchmark")
    finally:
        bench.stop()

    assert bench.process.returncode == 0, bench.said()
    results = json.loads(out.read_text())
    assert results["machine"]["cores"] > 0
    assert list(results["workers"]) == ["dedup"]
    dedup = results["workers"]["dedup"]
    assert dedup["records"] == dedup["events"] == 5_000
    assert dedup["cpu_us_per_event"] > 0
    assert "dedup" in bench.said()
