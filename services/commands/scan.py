"""`weir scan`: looks for identifiers in every place that keeps anything."""

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from rich.progress import Progress
from rich.table import Table

from services.commands.base import (
    EXIT_NO,
    WrongInputError,
    clear_errors,
    notes,
    screen,
    settings_of,
)
from services.core.traces import Traces
from services.edge.clickhouse_query import ClickHouse
from services.edge.kafka_admin import KafkaAdmin
from services.edge.store import read_entries
from services.edge.traces_tables import TableTraces
from services.edge.traces_topics import count_traces
from services.runtime.config import ClickHouseSettings, CommonSettings, KafkaSettings

Found = tuple[str, int]  # place, rows with a trace


@click.command("scan")
@click.argument("identifiers", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--retained",
    is_flag=True,
    help="Also in topics that lose their records by time; reads them whole.",
)
@click.option("--seconds", default=600.0, show_default=True, help="How long a topic may be read.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(identifiers: tuple[str, ...], retained: bool, seconds: float, as_json: bool) -> None:
    """Look for each ID everywhere: tables, compacted topics, and the state under WEIR_DATA_DIR.

    An ID is found where it stands as a word of its own, whoever's the row is. It reads all there
    is, so it takes its time. Exit code 0: no trace; 1: traces.

    \b
    Example:
      weir scan ada device-7 b67e7908-935b-5be7-9583-2db3eeff1cb5
    """
    if not all(identifier.strip() for identifier in identifiers):
        raise WrongInputError("An ID is empty.")
    traces = Traces(identifiers)
    with clear_errors(), Progress(console=notes(), transient=True) as progress:
        found = [
            *_tables(traces, progress),
            *_stores(traces, progress),
            *_topics(traces, progress, seconds, retained=retained),
        ]
    if as_json:
        screen().print(msgspec.json.encode(dict(found)).decode(), markup=False)
    else:
        show(found)
    if any(rows for _, rows in found):
        raise SystemExit(EXIT_NO)


def _tables(traces: Traces, progress: Progress) -> Iterator[Found]:
    settings = settings_of(ClickHouseSettings)
    scan = TableTraces(ClickHouse(settings), settings.clickhouse_database, traces)
    tables = scan.tables()
    for table in progress.track(tables, description="tables"):
        yield f"table {table}", scan.count(table, tables[table])


def _stores(traces: Traces, progress: Progress) -> Iterator[Found]:
    folder: Path = settings_of(CommonSettings).data_dir / "state"
    for path in progress.track(sorted(folder.glob("*/store-*")), description="state"):
        entries = read_entries(path)
        rows = sum(1 for key, value in entries if traces.anywhere(key) or traces.anywhere(value))
        yield f"state {path.parent.name}/{path.name}", rows


def _topics(
    traces: Traces, progress: Progress, seconds: float, *, retained: bool
) -> Iterator[Found]:
    settings = settings_of(KafkaSettings)
    compacted = {
        name: "compact" in topic.config.get("cleanup.policy", "")
        for name, topic in KafkaAdmin(settings).topics().items()
    }
    wanted = [name for name in sorted(compacted) if retained or compacted[name]]
    for name in progress.track(wanted, description="topics"):
        rows = count_traces(settings, name, traces, seconds, compacted=compacted[name])
        yield f"topic {name}", rows


def show(found: list[Found]) -> None:
    """A row a place, and what it comes to."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("place")
    table.add_column("traces", justify="right")
    for place, rows in found:
        table.add_row(place, f"[red]{rows:,}[/]" if rows else "0")
    screen().print(table)
    places = sum(1 for _, rows in found if rows)
    screen().print(
        f"[red]✗[/] Traces in {places} of {len(found)} places."
        if places
        else f"No trace in {len(found)} places."
    )


if __name__ == "__main__":
    command()
