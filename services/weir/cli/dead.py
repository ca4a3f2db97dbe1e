"""`weir dead`: list, show and replay dead letters."""

import uuid
from typing import Any

import click
from rich.text import Text

from weir.cli import letter_filters
from weir.cli.base import WrongInputError, clear_errors, screen
from weir.cli.letter_replay import letter_tables, manner, replay, replay_options
from weir.cli.letter_view import show_list, value_lines
from weir.redelivery import dead_letters
from weir.redelivery.letter_filter import LetterFilter
from weir.redelivery.queries import NO_ID

REASONS = (
    click.option("--step", help="The step that gave up: dedup, identity, rates or sink."),
    click.option("--reason", help="The reason, as in the column `reason`."),
)
COLUMNS = ("died_at", "id", "step", "source", "reason", "recovered", "detail")


@click.group("dead")
def command() -> None:
    """List, show and replay dead letters: records that a worker or ClickHouse could not process.

    \b
    Example:
      weir dead list --since 1h
      weir dead show events.accepted/3/1204
      weir dead replay --step sink --set properties.price=12.5
    """


@command.command("list")
@letter_filters.options(*REASONS)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(limit: int, as_json: bool, **given: Any) -> None:
    """List dead letters, the latest first; `recovered` is the time when a letter was replayed.

    \b
    Example:
      weir dead list --step sink --since 24h
    """
    chosen = _chosen(**given)
    with clear_errors():
        letters = letter_tables().list_dead(chosen, limit)
    show_list(letters, "dead letters", COLUMNS, limit, as_json)


@command.command("show")
@click.argument("letter_id", metavar="ID")
def show_command(letter_id: str) -> None:
    """Show the dead letter ID (topic/partition/offset, or an event id) with its content.

    \b
    Example:
      weir dead show events.accepted/3/1204
    """
    chosen = LetterFilter()
    chosen.any_of([_identified(letter_id)])
    with clear_errors():
        rows = letter_tables().show_dead(chosen)
    if not rows:
        raise click.ClickException(f"There is no dead letter {letter_id}.")
    for row in rows:
        _show(row)


@command.command("replay")
@letter_filters.options(*REASONS)
@replay_options
def replay_command(
    step: str | None,
    reason: str | None,
    source: str | None,
    since: str | None,
    until: str | None,
    ids: tuple[str, ...],
    **options: Any,
) -> None:
    """Send dead letters again: their bytes, to the topic they were read from, once each.

    A letter is skipped if it was replayed before, or if its event, or another event with the same
    source and idempotency key, is stored by now. A letter that dies again is a new letter. An event
    can be edited first; its fields are those that `weir dead show` prints. VALUE is JSON, or else
    text. Exit code 1 if some letters could not be sent.

    \b
    Example:
      weir dead replay --step sink --since 24h --dry-run
      weir dead replay --id events.resolved/3/1204 --set 'properties.price=12.5'
    """
    chosen = _chosen(step, reason, source, since, until, ids)
    chosen.before_now("died_at")
    how = manner(**options)
    replay(
        "dead",
        chosen,
        how,
        lambda tables: tables.dead(chosen),
        lambda letter, partitions: dead_letters.plan(letter, how.edits, partitions),
    )


def _chosen(
    step: str | None,
    reason: str | None,
    source: str | None,
    since: str | None,
    until: str | None,
    ids: tuple[str, ...],
) -> LetterFilter:
    chosen = LetterFilter()
    chosen.equal({"step": step, "reason": reason, "source": source})
    chosen.between("died_at", *letter_filters.times_of(since, until))
    chosen.any_of([_identified(letter_id, str(at)) for at, letter_id in enumerate(ids)])
    return chosen


def _identified(letter_id: str, number: str = "") -> tuple[str, dict[str, Any]]:
    """Return (SQL condition, parameters) that select a letter; `number` makes the parameter names unique."""
    topic, _, place = letter_id.partition("/")
    partition, _, offset = place.partition("/")
    if topic and partition.isdecimal() and offset.isdecimal():
        condition = (
            f"(origin_topic = {{topic{number}:String}} AND origin_partition = {int(partition)}"
            f" AND origin_offset = {int(offset)})"
        )
        return condition, {f"topic{number}": topic}
    try:
        event_id = str(uuid.UUID(letter_id))
    except ValueError:
        raise WrongInputError(
            f"{letter_id} is neither topic/partition/offset nor an event id; `weir dead list`"
            " shows both."
        ) from None
    return f"event_id = {{event_id{number}:UUID}}", {f"event_id{number}": event_id}


def _show(row: dict[str, Any]) -> None:
    console = screen()
    place = f"{row['origin_topic']}/{row['origin_partition']}/{row['origin_offset']}"
    console.print(Text(place, style="bold"))
    for name in ("step", "version", "reason", "detail", "source", "died_at"):
        console.print(f"  {name:<12}{row[name]}", markup=False)
    if row["event_id"] != str(NO_ID):
        console.print(f"  {'event_id':<12}{row['event_id']}", markup=False)
        console.print(f"  {'received_at':<12}{row['received_at']}", markup=False)
    key, value = bytes.fromhex(row["key"]), bytes.fromhex(row["value"])
    console.print(f"  {'key':<12}{key!r}", markup=False)
    for line in value_lines(value):
        console.print(f"  {line}", markup=False)


if __name__ == "__main__":
    command()
