"""`weir audit`: proves that every accepted event is stored, a duplicate, a dead letter or unsaved."""

import dataclasses
import time
from datetime import datetime

import click
import msgspec
from rich.table import Table
from rich.text import Text

from services.commands.base import (
    EXIT_NO,
    Moment,
    WrongInputError,
    clear_errors,
    screen,
    settings_of,
)
from services.commands.books import COLUMNS, Counts, Page, Range, findings, read_counts, read_pages
from services.core.groups import GROUPS
from services.edge.clickhouse_query import ClickHouse
from services.edge.kafka_admin import KafkaAdmin
from services.runtime.config import ClickHouseSettings, KafkaSettings

AUDITED = {name: read for name, read in GROUPS.items() if name != "weir.rates"}
LOOK_SECONDS = 0.5
SURE_LOOKS = (
    3  # what differs with nothing in flight is looked at again: it may have landed just now
)


@dataclasses.dataclass(frozen=True)
class Audit:
    """One reading of the books. Balanced: no findings."""

    in_flight: dict[str, int]  # records that each group has yet to read
    pages: list[Page]
    counts: list[Counts]
    findings: list[str]

    @property
    def balanced(self) -> bool:
        return not self.findings

    @property
    def settled(self) -> bool:
        return self.balanced and not any(self.in_flight.values())


class Auditor:
    """Reads the books of one part. Edge errors pass through."""

    def __init__(
        self, kafka: KafkaSettings, clickhouse: ClickHouseSettings, part: Range, minutes: bool
    ) -> None:
        self._admin = KafkaAdmin(kafka)
        self._clickhouse = ClickHouse(clickhouse)
        self._database = clickhouse.clickhouse_database
        self._part = part
        self._minutes = minutes

    def read(self) -> Audit:
        """Groups first, rows after: what is in no group's lag by then is in the rows, or lost."""
        in_flight: dict[str, int] = dict.fromkeys(AUDITED, 0)
        for lag in self._admin.lags(AUDITED):
            in_flight[lag.group] += lag.records
        pages = read_pages(self._clickhouse, self._database, self._part, self._minutes)
        counts = read_counts(self._clickhouse, self._database, self._part)
        return Audit(in_flight, pages, counts, findings(pages, counts))

    def read_until_settled(self, wait_seconds: float) -> Audit:
        """Reads again while events are on their way, at most for `wait_seconds`."""
        deadline = time.monotonic() + wait_seconds
        sure = 0
        while True:
            audit = self.read()
            if audit.settled:
                return audit
            sure = 0 if any(audit.in_flight.values()) else sure + 1
            if sure >= SURE_LOOKS or (not sure and time.monotonic() >= deadline):
                return audit
            time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        self._admin.close()


@click.command("audit")
@click.option("--from", "start", type=Moment(), help="Minutes of receipt from this time (UTC) on.")
@click.option("--to", "end", type=Moment(), help="Minutes of receipt before this time (UTC).")
@click.option("--source", default="", help="One source alone.")
@click.option("--minutes", is_flag=True, help="A line for every minute, not just every source.")
@click.option(
    "--wait",
    default=0.0,
    type=click.FloatRange(0),
    help="Wait so many seconds at most until nothing is in flight; exit code 1 if something still is.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(
    start: datetime | None,
    end: datetime | None,
    source: str,
    minutes: bool,
    wait: float,
    as_json: bool,
) -> None:
    """Show the books: accepted = stored + duplicate + dead + unsaved, for every source.

    Also holds the stages' own counts against the rows, and rows against distinct event ids. Exit
    code 0: they balance; 1: they do not (what is between two stages counts as a difference).

    \b
    Example:
      weir audit --wait 30
      weir audit --source demo --from 2026-01-31T12:00 --minutes
    """
    if start and end and start >= end:
        raise WrongInputError("--from must be before --to.")
    with clear_errors():
        auditor = Auditor(
            settings_of(KafkaSettings),
            settings_of(ClickHouseSettings),
            Range(start, end, source),
            minutes,
        )
        try:
            audit = auditor.read_until_settled(wait)
        finally:
            auditor.close()
    if as_json:
        shown = {"balanced": audit.balanced, **{f: getattr(audit, f) for f in FIELDS}}
        screen().print(msgspec.json.encode(shown).decode(), markup=False)
    else:
        _show(audit, minutes)
    if not (audit.settled if wait else audit.balanced):
        raise SystemExit(EXIT_NO)


FIELDS = tuple(field.name for field in dataclasses.fields(Audit))


def _show(audit: Audit, minutes: bool) -> None:
    console = screen()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("source")
    if minutes:
        table.add_column("minute")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for page in audit.pages:
        cells = [Text(f"{getattr(page, name):,}") for name in COLUMNS]
        cells[-1].stylize("red" if page.difference else "green")
        table.add_row(Text(page.source), *([Text(page.minute)] if minutes else []), *cells)
    console.print(table)
    for finding in audit.findings:
        console.print(Text(f"✗ {finding}", style="red"))
    waiting = {group: lag for group, lag in audit.in_flight.items() if lag}
    if waiting:
        told = ", ".join(f"{group} {lag:,}" for group, lag in waiting.items())
        console.print(Text(f"In flight (records yet to be read): {told}", style="yellow"))
    if not audit.balanced and waiting:
        console.print("Not balanced yet: --wait SECONDS waits for what is in flight.")
    elif not audit.balanced:
        console.print(Text("NOT BALANCED, and nothing is in flight.", style="bold red"))
    elif waiting:
        console.print("What has been read so far balances.")
    else:
        console.print(Text("The books balance.", style="bold green"))


if __name__ == "__main__":
    command()
