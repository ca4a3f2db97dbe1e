"""`make bench`, `python -m tests.bench`: what each stage and the whole chain cost on this machine."""

import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tests.bench.chain import measure_chain, measure_up
from tests.bench.doors import measure_doors
from tests.bench.gateway import measure_gateway
from tests.bench.measure import machine
from tests.bench.report import print_tables, write_json
from tests.bench.stages import WORKERS, measure_workers

PARTS = ("gateway", "doors", *WORKERS, "chain", "up")


class PartsType(click.ParamType[set[str]]):
    """Names of parts, comma-separated."""

    name = "parts"

    def convert(self, value: Any, param: Any, ctx: Any) -> set[str]:
        if isinstance(value, set):
            return value
        parts = {part.strip() for part in value.split(",") if part.strip()}
        if unknown := sorted(parts - set(PARTS)):
            self.fail(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
        return parts


@click.command()
@click.option("--quick", is_flag=True, help="A short run: that it works, not how fast.")
@click.option("--only", type=PartsType(), default=set(PARTS), help=f"Of {','.join(PARTS)}.")
@click.option("--events", type=int, default=0, help="Events drained; default 200,000.")
@click.option("--out", type=click.Path(path_type=Path), help="Default: bench-<date>.json here.")
def main(quick: bool, only: set[str], events: int, out: Path | None) -> None:
    """Measure on this machine; about eleven minutes. Nothing else should be running.

    \b
    Example:
      python -m tests.bench --only dedup,identity
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is ended
    console = Console(highlight=False)
    began = time.monotonic()

    def say(what: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/]  {what}")

    results: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine(),
    }
    count = events or (5_000 if quick else 200_000)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as name:
        folder = Path(name)
        if "gateway" in only:
            results["gateway"] = measure_gateway(folder / "gateway", quick, say)
        if "doors" in only:
            results["doors"] = measure_doors(folder / "doors", quick, say)
        if only & set(WORKERS):
            results["workers"] = measure_workers(folder / "workers", count, only, say)
        if "chain" in only:
            results["chain"] = measure_chain(folder / "chain", count, quick, say)
        if "up" in only:
            results["up"] = measure_up(folder / "up", say)
    console.print()
    print_tables(console, results)
    path = out or Path(f"bench-{datetime.now():%Y-%m-%d}.json")
    write_json(path, results)
    console.print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
