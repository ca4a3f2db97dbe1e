"""`weir audit`: check that every accepted event is stored, a duplicate, a dead letter, unsaved or erased."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import click
from rich.table import Table
from rich.text import Text

from weir.audit.auditor import Audit, Auditor, as_json
from weir.audit.clickhouse_counts import COLUMNS, AuditRange
from weir.cli.audit_watch import AuditWatch
from weir.cli.base import (
    EXIT_NO,
    NumberRange,
    TimeParam,
    WrongInputError,
    cell,
    screen,
    settings_of,
)
from weir.cli.progress import CommandProgress, reporting
from weir.cli.record_schemas import ask_for_schemas
from weir.cli.retrying import with_retries
from weir.runtime import process
from weir.settings.shared import (
    ClickHouseSettings,
    CommonSettings,
    KafkaSettings,
    WorkerSettings,
)

HOURS = 3.0


@click.command("audit")
@click.option(
    "--from", "start", type=TimeParam(), help="Audit events received from this time (UTC) on."
)
@click.option("--to", "end", type=TimeParam(), help="Audit events received before this time (UTC).")
@click.option("--all", "is_whole", is_flag=True, help="Audit from the first event on.")
@click.option("--source", default="", help="Audit only this source.")
@click.option("--minutes", is_flag=True, help="Show a line per source and minute.")
@click.option("--ids", is_flag=True, help="Also read every row to find ids stored twice.")
@click.option(
    "--wait",
    default=0.0,
    type=NumberRange(0),
    help="Wait at most this many seconds until nothing is in flight; exit code 1 if something still is.",
)
@click.option(
    "--json", "in_json", is_flag=True, help="Print JSON; with --watch one line per change."
)
@click.option("--watch", is_flag=True, help="Keep running: print each change, serve metrics.")
@click.option(
    "--every",
    default=60.0,
    show_default=True,
    type=NumberRange(1),
    help="With --watch: seconds from one audit to the next.",
)
def command(
    start: datetime | None,
    end: datetime | None,
    is_whole: bool,
    source: str,
    minutes: bool,
    ids: bool,
    wait: float,
    in_json: bool,
    watch: bool,
    every: float,
) -> None:
    """Show the books: accepted = stored + duplicate + dead + unsaved + erased + in flight.

    Three counts are compared, minute by minute: Kafka's offsets, the stages' own accounts, and
    ClickHouse's rows. An event that no row, account or unread record explains is a difference; the
    first place where the counts differ is listed first. Without --from or --all: the last three
    hours. Exit code 0: the books balance; 1: they do not.

    \b
    Example:
      weir audit --wait 30
      weir audit --source demo --from 2026-01-31T12:00 --minutes
      WEIR_METRICS_PORT=9109 weir audit --watch
    """
    if start and is_whole:
        raise WrongInputError("--from and --all cannot be used together.")
    if start and end and start >= end:
        raise WrongInputError("--from must be before --to.")
    if watch and (wait or minutes or start or end or is_whole):
        raise WrongInputError(
            "--watch audits the last hours: leave out --from, --to, --all, --wait and --minutes."
        )

    def part() -> AuditRange:
        return AuditRange(start if start or is_whole else hours_before(end), end, source)

    kafka, clickhouse = settings_of(KafkaSettings), settings_of(ClickHouseSettings)
    ask_for_schemas()
    if watch:
        common = settings_of(CommonSettings)
        process.begin("audit", outputs=(2,))
        process.configure(common, "audit")
        in_json = in_json or common.log_format == "json"
        AuditWatch(lambda: Auditor(kafka, clickhouse), part, in_json, ids).run(
            every, common.host, settings_of(WorkerSettings).metrics_port
        )
        return
    asked = part()

    def read(report: CommandProgress) -> Audit:
        with closing(Auditor(kafka, clickhouse)) as auditor:
            return auditor.read_surely(
                lambda: auditor.read(asked, minutes, ids), wait, report.show_step
            )

    with reporting() as report:
        audit = with_retries(lambda: read(report))
    if in_json:
        screen().print(as_json(audit), markup=False)
    else:
        _show(audit, asked, minutes)
    if not (audit.settled if wait else audit.balanced):
        raise SystemExit(EXIT_NO)


def hours_before(end: datetime | None) -> datetime:
    """Return the default start of the audited range: HOURS before `end` or now, at a full minute."""
    now = datetime.now(UTC)
    first = (min(end, now) if end else now) - timedelta(hours=HOURS)
    return first.replace(second=0, microsecond=0)


def _show(audit: Audit, part: AuditRange, minutes: bool) -> None:
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
        table.add_row(cell(page.source), *([Text(page.minute)] if minutes else []), *cells)
    console.print(table)
    if part.start is not None:
        console.print(f"Received from {part.start:%F %H:%M} on (UTC).", style="dim")
    for finding in audit.findings:
        console.print(Text(f"✗ {finding}", style="red"))
    for remark in audit.remarks:
        console.print(Text(f"! {remark}", style="yellow"))
    for text in audit.partly:
        console.print(Text(f"{text}.", style="yellow"))
    waiting = {group: records for group, records in audit.in_flight.items() if records}
    if waiting:
        in_flight = ", ".join(_waiting(group, audit) for group in waiting)
        console.print(Text(f"In flight (records yet to be read): {in_flight}", style="yellow"))
    if audit.blind:
        console.print(Text(f"The audit cannot compare yet: {audit.blind}.", style="yellow"))
    elif not audit.balanced:
        console.print(Text("NOT BALANCED.", style="bold red"))
    elif audit.partly:
        console.print("The part that was checked balances.")
    elif waiting:
        console.print("The records read so far balance.")
    else:
        console.print(Text("The books balance.", style="bold green"))


def _waiting(group: str, audit: Audit) -> str:
    sources = ", ".join(
        f"{cell(source)} {n:,}" for source, n in sorted(audit.unread[group].items())
    )
    text = f"{group} {audit.in_flight[group]:,}" + (f" ({sources})" if sources else "")
    if held := audit.held[group]:
        text += f", {held:,} of them behind an open transaction"
    return text


if __name__ == "__main__":
    command()
