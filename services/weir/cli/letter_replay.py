"""The shared part of `weir dead replay` and `weir rejected replay`: options, the run, and its summary."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import msgspec
from rich.markup import escape

from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.kafka.admin import KafkaAdmin
from weir.cli.base import (
    EXIT_NO,
    NumberRange,
    WrongInputError,
    notes,
    screen,
    settings_of,
)
from weir.cli.progress import CommandProgress, reporting
from weir.cli.retrying import with_retries
from weir.erasure.erase_filter import ErasedPeople
from weir.redelivery.edits import Edit, PathError, assignment, removal
from weir.redelivery.letter_filter import LetterFilter
from weir.redelivery.plans import Letter, NotSendable, Plan
from weir.redelivery.queries import LetterTables
from weir.redelivery.replay import SHOWN, Pace, Redelivery, RedeliveryCounts
from weir.redelivery.writer import Recoveries, read_ledger
from weir.settings.shared import ClickHouseSettings, KafkaSettings

L = TypeVar("L", bound=Letter)
F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--set", "sets", multiple=True, metavar="PATH=VALUE", help="First set the value at a path."
    ),
    click.option(
        "--unset",
        "unsets",
        multiple=True,
        metavar="PATH",
        help="First remove the value at a path.",
    ),
    click.option("--limit", type=click.IntRange(1), help="Send at most this many."),
    click.option(
        "--rate",
        default=0.0,
        type=NumberRange(0),
        help="Send at most this many a second; 0: no limit.",
    ),
    click.option("--dry-run", is_flag=True, help="Show what would happen; send nothing."),
    click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
)


@dataclass(frozen=True)
class ReplayOptions:
    """The options that both replay commands have."""

    edits: list[Edit]
    limit: int | None
    rate: float
    dry_run: bool
    as_json: bool


def letter_tables() -> LetterTables:
    """Connect to the tables of dead letters and rejected events."""
    settings = settings_of(ClickHouseSettings)
    return LetterTables(ClickHouse(settings), settings.clickhouse_database)


def replay_options(function: F) -> F:
    for option in reversed(OPTIONS):
        function = option(function)
    return function


def manner(
    sets: Sequence[str],
    unsets: Sequence[str],
    limit: int | None,
    rate: float,
    dry_run: bool,
    as_json: bool,
) -> ReplayOptions:
    """Return the options as values. `WrongInputError` for an invalid path."""
    try:
        edits = [assignment(text) for text in sets] + [removal(text) for text in unsets]
    except PathError as fault:
        raise WrongInputError(f"{fault}.") from None
    return ReplayOptions(edits, limit, rate, dry_run, as_json)


def replay(
    table: str,
    chosen: LetterFilter,
    manner: ReplayOptions,
    pages: Callable[[LetterTables], Iterable[list[L]]],
    plan: Callable[[L, Mapping[str, int]], Plan | NotSendable],
) -> None:
    """Replay letters and show the counts; exit with code 1 if some letters could not be sent."""

    def work(report: CommandProgress) -> RedeliveryCounts:
        return _replay(table, chosen, manner, pages, plan, report)

    with reporting() as report:
        tally = with_retries(lambda: work(report))
    _show(tally, manner)
    if not tally.is_done:
        raise SystemExit(EXIT_NO)


def _replay(
    table: str,
    chosen: LetterFilter,
    manner: ReplayOptions,
    pages: Callable[[LetterTables], Iterable[list[L]]],
    plan: Callable[[L, Mapping[str, int]], Plan | NotSendable],
    report: CommandProgress,
) -> RedeliveryCounts:
    """Make one attempt. Safe to repeat: letters that an earlier attempt sent are in the ledger, as recovered."""
    kafka = settings_of(KafkaSettings)
    tables = letter_tables()
    admin = KafkaAdmin(kafka)
    topics = admin.topics(with_config=False)
    admin.close()
    partitions = {name: topic.partitions for name, topic in topics.items()}
    recoveries = None if manner.dry_run else Recoveries(kafka)
    ledger = read_ledger(kafka)
    replaying: Redelivery[L] = Redelivery(
        tables,
        ledger,
        recoveries,
        lambda: ErasedPeople(kafka).has,
        lambda letter: plan(letter, partitions),
        Pace(manner.rate),
        manner.limit,
    )
    report.begin(tables.count(table, chosen))

    def progress(tally: RedeliveryCounts) -> None:
        report.show_step(f"{tally.replayed:,} sent")
        report.reach(tally.looked_at)

    replaying.run(pages(tables), progress)
    return replaying.tally


def _show(tally: RedeliveryCounts, manner: ReplayOptions) -> None:
    if manner.as_json:
        summary = {
            "dry_run": manner.dry_run,
            "replayed": tally.replayed,
            "edited": tally.edited,
            "recovered_before": tally.recovered,
            "stored": {letter: ", ".join(ids) for letter, ids in tally.stored.items()},
            "stored_in_part": tally.in_part,
            "refused_again": {
                letter: [one._asdict() for one in refused]
                for letter, refused in tally.refused.items()
            },
            "not_replayed": dict(tally.unfit),
        }
        screen().print(msgspec.json.encode(summary).decode(), markup=False)
        return
    for letter, refused in list(tally.refused.items())[:SHOWN]:
        for one in refused[:SHOWN]:
            place = f" ({one.field})" if one.field else ""
            notes().print(f"{letter}: {one.code}{place}: {one.detail}", markup=False)
    if len(tally.refused) > SHOWN:
        notes().print(f"... and {len(tally.refused) - SHOWN:,} more; --json shows all")
    for reason, count in tally.unfit.most_common():
        examples = ", ".join(tally.examples[reason])
        notes().print(
            f"[yellow]{count:,} not sent:[/] {escape(reason)} ({escape(examples)}{', …' * (count > SHOWN)})"
        )
    for letter, ids in list(tally.stored.items())[:SHOWN]:
        notes().print(f"{letter}: already stored as {', '.join(ids)}", markup=False)
    for letter, ids in list(tally.in_part.items())[:SHOWN]:
        text = f"{letter}: in part, the rest is already stored as {', '.join(ids)}"
        notes().print(text, markup=False)
    verb = "to replay" if manner.dry_run else "replayed"
    screen().print(
        f"{tally.replayed:,} {verb} ({tally.edited:,} edited), {tally.recovered:,} recovered before,"
        f" {len(tally.stored):,} already stored, {len(tally.refused):,} rejected again,"
        f" {tally.unfit.total():,} not sent"
    )
