"""`make fuzz`, `python -m tests.fuzz`: whatever can be sent to the gateway, and whether it stands."""

import signal
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from tests.bench.measure import machine
from tests.fuzz.explore import FoundError
from tests.fuzz.inside import Inside
from tests.fuzz.kinds import KINDS, ROOM_MIB, Ground, Kind, arrive
from tests.fuzz.oracle import check_answer, check_record, read_answers
from tests.fuzz.place import Place
from tests.fuzz.report import Outcome, Tally, print_outcome, write_markdown
from tests.fuzz.sources import FUZZ
from weir.runtime import logs

FAILURES = Path("fuzz-failures")
MAX_TOLD = 300


class Kept(msgspec.Struct):
    """A file to replay: the pieces of a connection, and what went wrong."""

    kind: str
    fault: str
    pieces: list[bytes]


def try_kind(ground: Ground, kind: Kind, number: int, tally: Tally) -> str:
    """One round, into the tally; empty, or what failed, and where it can be replayed from."""
    ground.place.forget_peak()
    began = time.monotonic()
    try:
        tally.tried += kind.run(ground, number, kind.long)
        ground.place.check_up()
        tally.peak_mib = max(tally.peak_mib, ground.check_room())
    except FoundError as found:
        FAILURES.mkdir(exist_ok=True)
        path = FAILURES / f"{kind.name.replace(' ', '-').replace(',', '')}-{number}.json"
        kept = Kept(kind.name, str(found), list(found.pieces))
        path.write_bytes(msgspec.json.encode(kept))
        return f"{_short(str(found))} (--replay {path})"
    except Exception as fault:  # noqa: BLE001  # of one kind; the others go on
        return _short(f"{type(fault).__name__}: {fault}")
    finally:
        tally.seconds += time.monotonic() - began
    return ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_TOLD else line[:MAX_TOLD] + "…"


def run(ground: Ground, kinds: list[Kind], minutes: float, seed: int, console: Console) -> Outcome:
    """Round after round of every kind, each with other inputs; at least one."""
    tallies = [Tally(kind.name) for kind in kinds]
    deadline = time.monotonic() + minutes * 60
    number = 0
    with console.status("") as status:
        while number == 0 or (time.monotonic() < deadline and not all(t.fault for t in tallies)):
            for kind, tally in zip(kinds, tallies, strict=True):
                if tally.fault or (number and time.monotonic() >= deadline):
                    continue
                left = max(0.0, deadline - time.monotonic()) / 60
                status.update(f"round {number + 1}, {left:.0f} min left: {kind.name}")
                tally.fault = try_kind(ground, kind, seed + number, tally)
                if tally.fault:
                    console.print(f"[red]✗[/] {kind.name}: {escape(tally.fault)}")
            number += 1
            tried = sum(tally.tried for tally in tallies)
            console.print(f"round {number}: {tried:,} inputs tried so far")
        status.update("what was taken has to arrive")
        fault, stored = "", 0
        try:
            stored = arrive(ground)
        except Exception as found:  # noqa: BLE001  # the report is to say so
            fault = _short(f"{type(found).__name__}: {found}")
    return Outcome(tallies, stored, fault, ground.rest_mib, ROOM_MIB)


def replay(path: Path, console: Console) -> bool:
    """Whether the gateway stands what failed once; its answers are printed."""
    kept = msgspec.json.decode(path.read_bytes(), type=Kept)
    console.print(f"{kept.kind}: {kept.fault}", markup=False)
    with closing(Inside([FUZZ])) as inside:
        try:
            received, records = inside.exchange(kept.pieces)
            console.print(received.decode(errors="replace"), markup=False)
            for answer in read_answers(received, []):
                check_answer(answer)
            for record in records:
                check_record(record)
        except (AssertionError, TimeoutError) as fault:
            console.print(f"✗ {type(fault).__name__}: {fault}", style="red", markup=False)
            return False
    console.print(f"{len(records)} records", style="green")
    return True


@click.command()
@click.option("--minutes", default=15.0, help="How long; every kind is tried once at least.")
@click.option("--seed", default=0, help="Other inputs; 0: of the clock.")
@click.option("--only", default="", help="Kinds whose name has this in it.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write the report here as Markdown."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Keep logs and data there.")
@click.option(
    "--replay",
    "replayed",
    type=click.Path(exists=True, path_type=Path),
    help="Send what failed again, to a gateway inside of this process, and show what comes.",
)
def main(
    minutes: float,
    seed: int,
    only: str,
    report: Path | None,
    folder: Path | None,
    replayed: Path | None,
) -> None:
    """Send a running Weir whatever can be sent; exit code 1 if an input was more than it stands.

    \b
    Example:
      python -m tests.fuzz --minutes 15 --report fuzz.md
      python -m tests.fuzz --replay fuzz-failures/requests-17.json
    """
    # so that everything started is ended; Hypothesis takes SystemExit for a failing input
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logs.configure("ERROR")
    console = Console(highlight=False)
    if replayed is not None:
        sys.exit(0 if replay(replayed, console) else 1)
    kinds = [kind for kind in KINDS if only in kind.name]
    if not kinds:
        raise click.BadParameter(f"none has it; there are {', '.join(k.name for k in KINDS)}")
    seed = seed or int(time.time())
    console.print(f"{len(kinds)} kinds, {minutes:g} minutes, --seed {seed}")
    started = datetime.now(UTC)
    with (
        tempfile.TemporaryDirectory(prefix="weir-fuzz-") as name,
        Place(folder or Path(name)) as place,
        closing(Inside([FUZZ])) as inside,
    ):
        place.begin()
        place.check_up()
        ground = Ground(inside, place, place.peak_mib())
        outcome = run(ground, kinds, minutes, seed, console)
    console.print()
    print_outcome(console, outcome)
    if report is not None:
        write_markdown(report, outcome, started, machine(), seed)
    if outcome.failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
