"""`weir replay`: ClickHouse from the topics, after it has lost something."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import click
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from services.commands.base import (
    EXIT_NO,
    Moment,
    UnreachableError,
    WrongInputError,
    clear_errors,
    notes,
    progress_bar,
    screen,
    settings_of,
)
from services.commands.letters.replaying import Pace
from services.commands.rebuild.present import COMPACTED, SEGMENTS_LEFT, SIDE_TOPICS, Warehouse
from services.commands.rebuild.rebuilding import Account, NotBackError, Part, Rebuilding
from services.core import topics
from services.edge import avro
from services.edge.clickhouse import ClickHouseRows
from services.edge.clickhouse_query import ClickHouse
from services.edge.erased_people import ErasedPeople
from services.edge.kafka_history import History, Span
from services.runtime.config import ClickHouseSettings, KafkaSettings
from services.sink.config import SinkSettings
from services.sink.ports import WarehouseAwayError
from services.sink.step import Routes

GROUP = "weir.sink"
CLOCKS_MS = 600_000  # by which the clocks of gateways and brokers may differ


@click.command("replay")
@click.option(
    "--from", "start", type=Moment(), required=True, help="Events received from this time (UTC) on."
)
@click.option("--to", "end", type=Moment(), help="Events received before this time (UTC).")
@click.option("--source", default="", help="Events of one source alone.")
@click.option(
    "--rate",
    default=5_000.0,
    show_default=True,
    type=click.FloatRange(0),
    help="So many rows a second at most; 0: no bound.",
)
@click.option("--events-only", is_flag=True, help="Leave every table but `events` and visits.")
@click.option("--dry-run", is_flag=True, help="Say what is missing, and write nothing.")
def command(
    start: datetime,
    end: datetime | None,
    source: str,
    rate: float,
    events_only: bool,
    dry_run: bool,
) -> None:
    """Put back what ClickHouse has lost of what the sink had put in: from the topics, once.

    Events are read from `events.resolved`, and those without a row go in by the sink's own way, so
    that visits follow. Of the other tables every record goes in again and replaces itself. Live
    traffic goes on meanwhile: the sink's own work is not touched. What died stays dead. Goes back
    as far as the topics do (a week; see deploy/topics.yaml). One at a time; run it again if it was
    interrupted. Exit code 1 if something could not be put back.

    \b
    Example:
      weir replay --from 2026-01-31T12:00 --dry-run
      weir replay --from 2026-01-31 --rate 2000
    """
    if end is not None and start >= end:
        raise WrongInputError("--from must be before --to.")
    part = Part(
        int(start.timestamp() * 1_000), int(end.timestamp() * 1_000) if end else None, source
    )
    kafka, clickhouse = settings_of(KafkaSettings), settings_of(ClickHouseSettings)
    sink = settings_of(SinkSettings)
    with clear_errors(), _history(kafka) as history:
        warehouse = Warehouse(
            ClickHouse(clickhouse), clickhouse.clickhouse_database, lambda: ErasedPeople(kafka).has
        )
        side = () if events_only else SIDE_TOPICS
        since = part.start - CLOCKS_MS
        plan = [(name, history.spans(name, None if name in COMPACTED else since)) for name in side]
        plan.append((topics.RESOLVED, history.spans(topics.RESOLVED, since)))
        more = warehouse.events_without_rows()
        if more and not dry_run:
            raise click.ClickException(SEGMENTS_LEFT.format(more=more))
        rows = ClickHouseRows(clickhouse, sink.sink_insert_timeout, 1, sink.sink_compress)
        headers = {header: schema.name for header, schema in avro.schemas_by_header().items()}
        rebuilding = Rebuilding(warehouse, rows, Routes(headers), Pace(rate), dry_run)
        try:
            accounts = _rebuild(history, rebuilding, plan, part)
        except WarehouseAwayError as fault:
            raise UnreachableError(
                f"ClickHouse takes no rows now ({fault}): run it again."
            ) from None
        except NotBackError as fault:
            raise click.ClickException(str(fault)) from None
        finally:
            rows.close()
    _show(accounts, dry_run)
    if more:
        notes().print(SEGMENTS_LEFT.format(more=more), markup=False)
    if any(account.refused for account in accounts.values()):
        raise SystemExit(EXIT_NO)


def _rebuild(
    history: History, rebuilding: Rebuilding, plan: list[tuple[str, list[Span]]], part: Part
) -> dict[str, Account]:
    """Table after table: what died comes first, so that it is known."""
    accounts: dict[str, Account] = {}
    with _progress(sum(len(span) for _, spans in plan for span in spans)) as advance:
        for name, spans in plan:
            account = accounts[name] = Account()
            for span in spans:
                at = span.start
                for chunk in history.chunks(span):
                    if name == topics.RESOLVED:
                        rebuilding.put_events(span, chunk, part, account)
                    else:
                        rebuilding.put_records(span, chunk, account)
                    advance(name, min(chunk.end, span.end) - at)
                    at = min(chunk.end, span.end)
                advance(name, span.end - at)
    return accounts


@contextmanager
def _history(kafka: KafkaSettings) -> Iterator[History]:
    history = History(kafka, GROUP)
    try:
        yield history
    finally:
        history.close()


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str, int], None]]:
    columns = (
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with progress_bar(*columns) as progress:
        task = progress.add_task("", total=total)

        def advance(name: str, offsets: int) -> None:
            progress.update(task, advance=offsets, description=name)

        yield advance


def _show(accounts: dict[str, Account], dry_run: bool) -> None:
    events = accounts[topics.RESOLVED]
    verb = "missing" if dry_run else "missing and put back"
    kept = f", {events.barred:,} left alone" if events.barred else ""
    for name, account in accounts.items():
        if account.refused:
            notes().print(f"{name}: ClickHouse refuses {account.refused:,} records", markup=False)
    side = {name: account for name, account in accounts.items() if name != topics.RESOLVED}
    if side:
        told = ", ".join(f"{name} {account.put_back:,}" for name, account in side.items())
        screen().print(f"{'To write' if dry_run else 'Written'} again: {told}", markup=False)
    screen().print(f"{events.there:,} events there, {events.put_back:,} {verb}{kept}")


if __name__ == "__main__":
    command()
