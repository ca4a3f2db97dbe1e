"""`weir scan`: search for identifiers everywhere that data is stored."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import click
import msgspec
from rich.table import Table

from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.rocksdb import read_entries
from weir.cli.base import (
    EXIT_NO,
    WrongInputError,
    screen,
    settings_of,
)
from weir.cli.progress import CommandProgress, reporting
from weir.cli.retrying import with_retries
from weir.erasure.identifier_scan import IdentifierScan
from weir.erasure.scan_tables import TableScan
from weir.erasure.scan_topics import count_traces
from weir.settings.shared import ClickHouseSettings, CommonSettings, KafkaSettings

Found = tuple[str, int]  # place, rows with a trace
T = TypeVar("T", str, Path)


@click.command("scan")
@click.argument("identifiers", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--retained",
    is_flag=True,
    help="Also search the topics that delete records by age; reads them whole.",
)
@click.option(
    "--seconds",
    default=600.0,
    show_default=True,
    help="Read a topic for at most this many seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(identifiers: tuple[str, ...], retained: bool, seconds: float, as_json: bool) -> None:
    """Search for each ID everywhere: tables, compacted topics, and the state under WEIR_DATA_DIR.

    An ID is found where it is a whole word, in any person's row. The command reads all the data,
    so it can take long. Exit code 0: no trace; 1: traces.

    \b
    Example:
      weir scan ada device-7 b67e7908-935b-5be7-9583-2db3eeff1cb5
    """
    if not all(identifier.strip() for identifier in identifiers):
        raise WrongInputError("An ID is empty.")
    traces = IdentifierScan(identifiers)
    with reporting() as report:
        found = [
            *_tables(traces, report),
            *_stores(traces, report),
            *_topics(traces, report, seconds, retained=retained),
        ]
    if as_json:
        screen().print(msgspec.json.encode(dict(found)).decode(), markup=False)
    else:
        show(found)
    if any(rows for _, rows in found):
        raise SystemExit(EXIT_NO)


def _tracked(places: Sequence[T], kind: str, report: CommandProgress) -> Iterator[T]:
    report.begin(len(places))
    for place in places:
        report.show_step(f"{kind} {place}")
        yield place
        report.advance()


def _tables(traces: IdentifierScan, report: CommandProgress) -> Iterator[Found]:
    settings = settings_of(ClickHouseSettings)

    def scan() -> TableScan:
        return TableScan(ClickHouse(settings), settings.clickhouse_database, traces)

    tables = with_retries(lambda: scan().tables())
    for table in _tracked(list(tables), "table", report):

        def count(name: str = table) -> int:
            return scan().count(name, tables[name])

        yield f"table {table}", with_retries(count)


def _stores(traces: IdentifierScan, report: CommandProgress) -> Iterator[Found]:
    folder: Path = settings_of(CommonSettings).data_dir / "state"
    for path in _tracked(sorted(folder.glob("*/store-*")), "state", report):
        entries = read_entries(path)
        rows = sum(1 for key, value in entries if traces.anywhere(key) or traces.anywhere(value))
        yield f"state {path.parent.name}/{path.name}", rows


def _topics(
    traces: IdentifierScan, report: CommandProgress, seconds: float, *, retained: bool
) -> Iterator[Found]:
    settings = settings_of(KafkaSettings)
    topics = with_retries(lambda: KafkaAdmin(settings).topics())
    compacted = {
        name: "compact" in topic.config.get("cleanup.policy", "") for name, topic in topics.items()
    }
    wanted = [name for name in sorted(compacted) if retained or compacted[name]]
    for name in _tracked(wanted, "topic", report):

        def count(topic: str = name) -> int:
            return count_traces(settings, topic, traces, seconds, compacted=compacted[topic])

        yield f"topic {name}", with_retries(count)


def show(found: list[Found]) -> None:
    """Print one row per place, and how many places have traces."""
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
