"""What a run came to: a row a kind, on the terminal and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

COLUMNS = ("inputs tried", "failures", "seconds", "gateway's peak memory, MiB")


@dataclass
class Tally:
    """Of one kind. `fault`: of the input that failed, after which the kind was tried no more."""

    kind: str
    tried: int = 0
    seconds: float = 0.0
    peak_mib: float = 0.0
    fault: str = ""

    def cells(self) -> tuple[str, ...]:
        return (
            f"{self.tried:,}",
            "1" if self.fault else "0",
            f"{self.seconds:.0f}",
            f"{self.peak_mib:.0f}",
        )


@dataclass(frozen=True)
class Outcome:
    """Of a whole run."""

    tallies: Sequence[Tally]
    stored: int
    fault: str  # of the books, or of what did not arrive; empty: all did
    rest_mib: float
    room_mib: float

    @property
    def failures(self) -> int:
        return sum(bool(tally.fault) for tally in self.tallies) + bool(self.fault)

    def sentences(self) -> list[str]:
        tried = sum(tally.tried for tally in self.tallies)
        arrived = (
            f"{self.stored:,} of the events that were taken went on through Kafka into ClickHouse: "
        )
        return [
            f"{tried:,} inputs tried, {self.failures} failures.",
            arrived + (self.fault or "all are rows, none is dead, the books balance."),
            f"Gateway: {self.rest_mib:.0f} MiB at rest, at most {self.room_mib:.0f} MiB more allowed.",
        ]


def print_outcome(console: Console, outcome: Outcome) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("kind")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for tally in outcome.tallies:
        table.add_row(tally.kind, *tally.cells(), style="red" if tally.fault else "")
    console.print(table)
    console.print("\n".join(outcome.sentences()), markup=False)


def write_markdown(
    path: Path, outcome: Outcome, started: datetime, machine: Mapping[str, object], seed: int
) -> None:
    lines = [
        f"{started:%Y-%m-%d %H:%M} UTC, {machine['cores']} × {machine['cpu']}, "
        f"{machine['memory_gib']} GiB, Python {machine['python']}, seed {seed}.",
        "",
        f"| kind | {' | '.join(COLUMNS)} |",
        "|---|" + "---:|" * len(COLUMNS),
        *(f"| {' | '.join((tally.kind, *tally.cells()))} |" for tally in outcome.tallies),
        "",
        *outcome.sentences(),
        "",
        *(f"- {tally.kind}: {tally.fault}" for tally in outcome.tallies if tally.fault),
    ]
    path.write_text("\n".join(lines).rstrip() + "\n")
