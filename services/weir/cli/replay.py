"""`weir replay`: restore rows that ClickHouse has lost, from the topics."""

from datetime import datetime

import click

from weir.backfill.present import SEGMENTS_LEFT
from weir.backfill.rebuild import EventRange, RebuildCounts
from weir.backfill.run import BackfillOptions, BackfillResult, BackfillTarget, run
from weir.cli.base import (
    EXIT_NO,
    NumberRange,
    TimeParam,
    WrongInputError,
    notes,
    screen,
    settings_of,
)
from weir.cli.progress import reporting
from weir.cli.retrying import with_retries
from weir.core import topics
from weir.settings.shared import ClickHouseSettings, CommonSettings, KafkaSettings
from weir.settings.sink import SinkSettings

EVENTS = (topics.RESOLVED, topics.ACCEPTED)


@click.command("replay")
@click.option(
    "--from",
    "start",
    type=TimeParam(),
    required=True,
    help="Restore events received from this time (UTC) on.",
)
@click.option(
    "--to", "end", type=TimeParam(), help="Restore events received before this time (UTC)."
)
@click.option("--source", default="", help="Restore only events of this source.")
@click.option(
    "--origin",
    default="resolved",
    show_default=True,
    type=click.Choice(["resolved", "accepted"]),
    help="accepted: also restore what `events.resolved` has lost, from `events.accepted`.",
)
@click.option(
    "--rate",
    default=5_000.0,
    show_default=True,
    type=NumberRange(0),
    help="Write at most this many rows a second; 0: no limit.",
)
@click.option("--events-only", is_flag=True, help="Restore only `events` and visits.")
@click.option("--dry-run", is_flag=True, help="Show what is missing; write nothing.")
def command(
    start: datetime,
    end: datetime | None,
    source: str,
    origin: str,
    rate: float,
    events_only: bool,
    dry_run: bool,
) -> None:
    """Restore rows that ClickHouse has lost, from the topics, each event once.

    Events are read from `events.resolved`. Those without a row are inserted in the same way as by
    the sink, so that visits are updated. For the other tables every record is inserted again and
    replaces itself. Live traffic continues, and the work of the workers and the sink is not
    touched. Dead letters stay dead letters. The replay reaches back as far as the topics do (a
    week; see deploy/topics.yaml).

    With `--origin accepted` the command waits until the workers have decided about every accepted
    event. Then it restores each accepted event that is not a duplicate and has no row, even if
    `events.unique` or `events.resolved` have lost it. The event gets the person that identity
    knows now. Counts of people (`weir.profiles`) do not change.

    Only one replay can run: a second one ends the first, or is refused because of it. Run it again
    if it was interrupted. Exit code 1 if something could not be restored.

    \b
    Example:
      weir replay --from 2026-01-31T12:00 --dry-run
      weir replay --from 2026-01-31 --rate 2000
      weir replay --from 2026-01-31 --origin accepted
    """
    if end is not None and start >= end:
        raise WrongInputError("--from must be before --to.")
    part = EventRange(
        int(start.timestamp() * 1_000), int(end.timestamp() * 1_000) if end else None, source
    )
    asked = BackfillOptions(part, origin == "accepted", events_only, rate, dry_run)
    where = BackfillTarget(
        settings_of(KafkaSettings),
        settings_of(ClickHouseSettings),
        settings_of(SinkSettings),
        settings_of(CommonSettings).data_dir,
    )
    with reporting() as report:
        done = with_retries(lambda: run(asked, where, report))
    _show(done, dry_run)
    if any(account.refused for account in done.accounts.values()):
        raise SystemExit(EXIT_NO)


def _show(done: BackfillResult, dry_run: bool) -> None:
    accounts = done.accounts
    for name, account in accounts.items():
        if account.refused:
            whom = (
                "ClickHouse or identity refuse" if name == topics.ACCEPTED else "ClickHouse refuses"
            )
            notes().print(f"{name}: {whom} {account.refused:,} records", markup=False)
    side = {name: account for name, account in accounts.items() if name not in EVENTS}
    if side:
        counts = ", ".join(f"{name} {account.put_back:,}" for name, account in side.items())
        screen().print(f"{'To write' if dry_run else 'Written'} again: {counts}", markup=False)
    for name in EVENTS:
        if name in accounts:
            prefix = f"{name}: " if topics.ACCEPTED in accounts else ""
            screen().print(f"{prefix}{_summary(accounts[name], dry_run)}", markup=False)
    if done.more:
        notes().print(SEGMENTS_LEFT.format(more=done.more), markup=False)


def _summary(events: RebuildCounts, dry_run: bool) -> str:
    verb = "missing" if dry_run else "missing and restored"
    kept = f", {events.barred:,} left alone" if events.barred else ""
    unsaved = f", {events.unsaved:,} unsaved" if events.unsaved else ""
    return f"{events.there:,} events present, {events.put_back:,} {verb}{kept}{unsaved}"


if __name__ == "__main__":
    command()
