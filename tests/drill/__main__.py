"""`make drill`, `python -m tests.drill`: every fault we can think of, and whether the books still balance."""

import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import dropwhile
from pathlib import Path
from subprocess import SubprocessError

import click
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import KafkaException
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from tests.bench.measure import machine
from tests.drill.cluster import ClusterWorld
from tests.drill.disk import CannotMountError
from tests.drill.drills import CLUSTER_DRILLS, DRILLS, Drill, W
from tests.drill.report import print_table, write_markdown
from tests.drill.sender import LONG_REST_SECONDS, REST_SECONDS, Sender
from tests.drill.verdict import Verdict, judge
from tests.drill.world import World

FAULTS = (AssertionError, OSError, RuntimeError, SubprocessError, ClickHouseError, KafkaException)


def drill_all(
    world: W, drills: Sequence[Drill[W]], short: bool, seed: int, console: Console
) -> list[Verdict]:
    """Every drill in turn, each with a source and a sender of its own. `World.begin` is called here."""
    sources = {_source(drill): {"write_keys": [f"{_source(drill)}-key"]} for drill in drills}
    world.begin({name: {"workspace": name, **source} for name, source in sources.items()})
    verdicts = []
    for number, drill in enumerate(drills, 1):
        with console.status("") as status:
            show = partial(_show, status, f"{number} of {len(drills)}: {drill.name}")
            verdict = _drill(world, drill, short, seed, show)
        verdicts.append(verdict)
        mark = "[red]✗" if verdict.faults else "[yellow]-" if verdict.skipped else "[green]✓"
        console.print(
            f"{mark}[/] {drill.name} × {verdict.rounds}: "
            f"{verdict.sent.events:,} events, {verdict.seconds:.0f} s"
            + "".join(f"\n    {escape(why)}" for why in (*verdict.faults, verdict.skipped) if why)
        )
    return verdicts


def _show(status: Status, drill: str, at: str) -> None:
    status.update(f"{drill}, {at}")


def _drill(
    world: W, drill: Drill[W], short: bool, seed: int, show: Callable[[str], None]
) -> Verdict:
    """Done so many times one after another while a sender sends, and judged."""
    source, began = _source(drill), time.monotonic()
    chance = random.Random(f"{seed} {drill.name}")
    rest = LONG_REST_SECONDS if short else REST_SECONDS
    sender = Sender(world.gateway_port, source, f"{source}-key", seed, rest)
    rounds = drill.times(short)
    faults, skipped, done = [], "", 0
    restarts, recoveries = world.restarts, world.recoveries()
    try:
        with sender, world.healed():
            for done in range(1, rounds + 1):
                show(f"round {done} of {rounds}")
                drill.fault(world, chance)
            show("all well again?")
    except CannotMountError as why:
        done, skipped = 0, f"cannot mount a small disk: {why}"
    except FAULTS as found:  # it is told, and the other drills go on
        faults.append(f"{type(found).__name__}: {found}")
    show("the books")
    try:
        verdict = judge(world, drill.name, done, source, sender.sent)
    except FAULTS as found:
        verdict = Verdict(drill.name, done, sender.sent)
        faults.append(f"cannot be judged: {type(found).__name__}: {found}")
    verdict.skipped = skipped
    verdict.faults += faults
    verdict.restarts = world.restarts - restarts
    verdict.recoveries = world.recoveries() - recoveries
    verdict.seconds = time.monotonic() - began
    return verdict


def _at_most(drills: Sequence[Drill[W]], rounds: int) -> list[Drill[W]]:
    """With no more rounds than that each; 0: as they say."""
    return [replace(drill, rounds=min(rounds or drill.rounds, drill.rounds)) for drill in drills]


def _source(drill: Drill[W]) -> str:
    return "drill-" + drill.name.replace(" ", "-").replace("'", "")


@click.command()
@click.option("--only", default="", help="Drills whose name has this in it.")
@click.option("--from", "first", default="", help="Begin with the first that has this in it.")
@click.option("--short", is_flag=True, help="The short cut that `make test` takes.")
@click.option("--rounds", type=int, default=0, help="At most so many of each; 0: as it says.")
@click.option("--seed", type=int, default=0, help="Other moments; 0: of the clock.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write the report here as Markdown."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Keep logs and data there.")
def main(
    only: str,
    first: str,
    short: bool,
    rounds: int,
    seed: int,
    report: Path | None,
    folder: Path | None,
) -> None:
    """Do harm to a running Weir and count; exit code 1 if an event was lost, doubled or not in the books.

    \b
    Example:
      python -m tests.drill --only killed
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is ended
    console = Console(highlight=False)
    names = [*(drill.name for drill in DRILLS), *(drill.name for drill in CLUSTER_DRILLS)]
    later = dropwhile(lambda name: first not in name, names)
    chosen = {name for name in later if only in name}
    lone = [d for d in DRILLS if d.name in chosen and d.times(short)]
    clustered = [d for d in CLUSTER_DRILLS if d.name in chosen and d.times(short)]
    if not lone and not clustered:
        raise click.BadParameter(f"none has it; there are {', '.join(names)}")
    seed = seed or int(time.time())
    console.print(f"{len(lone) + len(clustered)} drills, --seed {seed}")
    began, started = time.monotonic(), datetime.now(UTC)
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="weir-drill-") as name:
        within = folder or Path(name)
        if lone:
            with World(within / "lone") as world:
                verdicts += drill_all(world, _at_most(lone, rounds), short, seed, console)
        if clustered:
            with ClusterWorld(within / "cluster") as cluster:
                verdicts += drill_all(cluster, _at_most(clustered, rounds), short, seed, console)
    console.print()
    print_table(console, verdicts)
    console.print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    if report is not None:
        write_markdown(report, verdicts, started, machine(), seed)
    if any(verdict.faults for verdict in verdicts):
        sys.exit(1)


if __name__ == "__main__":
    main()
