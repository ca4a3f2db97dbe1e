"""`make drill`, `python -m tests.drill`: every fault we can think of, and whether the books still balance."""

import random
import signal
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from subprocess import SubprocessError

import click
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import KafkaException
from rich.console import Console
from rich.markup import escape

from tests.bench.measure import machine
from tests.drill.disk import CannotMountError
from tests.drill.drills import DRILLS, Drill
from tests.drill.report import print_table, write_markdown
from tests.drill.sender import Sender
from tests.drill.verdict import Verdict, judge
from tests.drill.world import World

FAULTS = (AssertionError, OSError, RuntimeError, SubprocessError, ClickHouseError, KafkaException)


def drill_all(
    world: World, drills: list[Drill], short: bool, seed: int, console: Console
) -> list[Verdict]:
    """Every drill in turn, each with a source and a sender of its own. `World.begin` is called here."""
    sources = {_source(drill): {"write_keys": [f"{_source(drill)}-key"]} for drill in drills}
    world.begin({name: {"workspace": name, **source} for name, source in sources.items()})
    verdicts = []
    for number, drill in enumerate(drills, 1):
        rounds = drill.short if short else drill.rounds
        source, began = _source(drill), time.monotonic()
        chance = random.Random(f"{seed} {drill.name}")
        fault = skipped = ""
        with (
            console.status("") as status,
            Sender(world.gateway_port, source, f"{source}-key", seed) as sender,
        ):
            try:
                for done in range(rounds):
                    status.update(
                        f"{number} of {len(drills)}: {drill.name}, round {done + 1} of {rounds}"
                    )
                    drill.fault(world, chance)
                status.update(f"{number} of {len(drills)}: {drill.name}, all well again?")
                world.heal()
            except CannotMountError as why:
                rounds, skipped = 0, f"cannot mount a small disk: {why}"
                world.heal()
            except FAULTS as found:  # it is told, and the other drills go on
                fault = f"{type(found).__name__}: {found}"
                world.heal()
        verdict = judge(world, drill.name, rounds, source, sender.sent)
        verdict.skipped = skipped
        if fault:
            verdict.faults.append(fault)
        verdict.seconds = time.monotonic() - began
        verdicts.append(verdict)
        mark = "[red]✗" if verdict.faults else "[yellow]-" if skipped else "[green]✓"
        console.print(
            f"{mark}[/] {drill.name} × {rounds}: "
            f"{sender.sent.events:,} events, {verdict.seconds:.0f} s"
            + "".join(f"\n    {escape(told)}" for told in (*verdict.faults, skipped) if told)
        )
    return verdicts


def _source(drill: Drill) -> str:
    return "drill-" + drill.name.replace(" ", "-").replace("'", "")


@click.command()
@click.option("--only", default="", help="Drills whose name has this in it.")
@click.option("--short", is_flag=True, help="The short cut that `make test` takes.")
@click.option("--rounds", type=int, default=0, help="At most so many of each; 0: as it says.")
@click.option("--seed", type=int, default=0, help="Other moments; 0: of the clock.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write the report here as Markdown."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Keep logs and data there.")
def main(
    only: str, short: bool, rounds: int, seed: int, report: Path | None, folder: Path | None
) -> None:
    """Do harm to a running Weir and count; exit code 1 if an event was lost, doubled or not in the books.

    \b
    Example:
      python -m tests.drill --only killed
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is ended
    console = Console(highlight=False)
    drills = [d for d in DRILLS if only in d.name and (d.short or not short)]
    if not drills:
        raise click.BadParameter(f"none has it; there are {', '.join(d.name for d in DRILLS)}")
    if rounds:
        drills = [replace(drill, rounds=min(rounds, drill.rounds)) for drill in drills]
    seed = seed or int(time.time())
    console.print(f"{len(drills)} drills, --seed {seed}")
    began, started = time.monotonic(), datetime.now(UTC)
    with (
        tempfile.TemporaryDirectory(prefix="weir-drill-") as name,
        World(folder or Path(name)) as world,
    ):
        verdicts = drill_all(world, drills, short, seed, console)
    console.print()
    print_table(console, verdicts)
    console.print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    if report is not None:
        write_markdown(report, verdicts, started, machine(), seed)
    if any(verdict.faults for verdict in verdicts):
        sys.exit(1)


if __name__ == "__main__":
    main()
