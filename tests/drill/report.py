"""A row per drill, on the terminal and as Markdown."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.drill.verdict import Verdict

COLUMNS = (
    "rounds",
    "events sent",
    "distinct",
    "lost",
    "doubled",
    "books",
    "restarts",
    "recoveries",
    "seconds",
)


def print_table(console: Console, verdicts: Sequence[Verdict]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("drill")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for verdict in verdicts:
        table.add_row(verdict.drill, *_cells(verdict), style="red" if verdict.faults else "")
    console.print(table)


def write_markdown(
    path: Path,
    verdicts: Sequence[Verdict],
    started: datetime,
    machine: Mapping[str, object],
    seed: int,
) -> None:
    lines = [
        f"{started:%Y-%m-%d %H:%M} UTC, {machine['cores']} × {machine['cpu']}, "
        f"{machine['memory_gib']} GiB, Python {machine['python']}, seed {seed}.",
        "",
        f"| drill | {' | '.join(COLUMNS)} |",
        "|---|" + "---:|" * len(COLUMNS),
        *(f"| {' | '.join((verdict.drill, *_cells(verdict)))} |" for verdict in verdicts),
        "",
        *(f"- {verdict.drill}: {fault}" for verdict in verdicts for fault in verdict.faults),
        *(
            f"- {verdict.drill}: not done, {verdict.skipped}"
            for verdict in verdicts
            if verdict.skipped
        ),
    ]
    path.write_text("\n".join(lines).rstrip() + "\n")


def _cells(verdict: Verdict) -> tuple[str, ...]:
    return (
        f"{verdict.rounds:,}",
        f"{verdict.sent.events:,}",
        f"{verdict.sent.distinct:,}",
        f"{verdict.lost:,}",
        f"{verdict.doubled:,}",
        "balanced" if verdict.balanced else "NOT BALANCED",
        f"{verdict.restarts:,}",
        f"{verdict.recoveries:,}",
        f"{verdict.seconds:.0f}",
    )
