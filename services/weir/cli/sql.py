"""`weir sql`: run a ClickHouse query and show the result as a table."""

import re
import sys
from typing import Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from weir.adapters.clickhouse.query import ClickHouse, QueryResult
from weir.cli.base import WrongInputError, clear_errors, screen, settings_of
from weir.settings.shared import ClickHouseSettings

OWN_FORMAT = re.compile(r"\bFORMAT\s+\w+\s*;?\s*$", re.IGNORECASE)
NUMBER_TYPE = re.compile(r"(?:Nullable\()?(?:U?Int|Float|Decimal)")


@click.command("sql")
@click.argument("query")
@click.option("--format", "form", help="Print in a ClickHouse format: CSV, JSONEachRow, ...")
def command(query: str, form: str | None) -> None:
    """Run QUERY in ClickHouse (- reads it from standard input) and show the result as a table.

    \b
    Example:
      weir sql "SELECT event, count() FROM weir.events GROUP BY event"
      weir sql "SELECT * FROM weir.sessions" --format CSVWithNames > sessions.csv
    """
    sql = sys.stdin.read() if query == "-" else query
    if not sql.strip():
        raise WrongInputError("The query is empty.")
    with clear_errors():
        clickhouse = ClickHouse(settings_of(ClickHouseSettings))
        if form or OWN_FORMAT.search(sql):
            for piece in clickhouse.stream(sql, form):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        else:
            _show(clickhouse.ask(sql))


def _show(answer: QueryResult) -> None:
    console = screen()
    if not answer.columns:
        console.print("Done.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, kind in zip(answer.columns, answer.types, strict=True):
        numeric = NUMBER_TYPE.match(kind) is not None
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in answer.rows:
        table.add_row(*(Text(cell(value)) for value in row))
    console.print(table)
    count = len(answer.rows)
    console.print(f"[dim]{count:,} row{'s' * (count != 1)}[/]")


def cell(value: Any) -> str:
    """Return a JSON value as text for a table."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.15g}"
    return msgspec.json.encode(value).decode()


if __name__ == "__main__":
    command()
