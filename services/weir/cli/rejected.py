"""`weir rejected`: list, show and replay what the gateway rejected."""

import json
import uuid
from typing import Any

import click
from rich.text import Text

from weir.cli import letter_filters
from weir.cli.base import WrongInputError, clear_errors, screen, settings_of
from weir.cli.letter_replay import letter_tables, manner, replay, replay_options
from weir.cli.letter_view import hex_lines, show_list
from weir.gateway.routes import DOORS_FOR_REPLAY
from weir.redelivery import rejected_events
from weir.redelivery.letter_filter import LetterFilter
from weir.registry.contents import read_registry
from weir.settings.shared import KafkaSettings

REASONS = (
    click.option("--code", help="The reason, as in the column `code`: invalid_name, …"),
    click.option("--sent-by", "sent_by", metavar="DOOR", help="The door that received it."),
)
COLUMNS = ("received_at", "id", "source", "door", "code", "field", "recovered", "detail")


@click.group("rejected")
def command() -> None:
    """List, show and replay the events and bodies that the gateway rejected.

    \b
    Example:
      weir rejected list --since 1h
      weir rejected show 01a1fd6f-8faf-777b-86a6-dd52f10f1f92
      weir rejected replay --code wrong_type --set value=12
    """


@command.command("list")
@letter_filters.options(*REASONS)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(limit: int, as_json: bool, **given: Any) -> None:
    """List rejected events, the latest first; `recovered` is the time when an event was replayed.

    \b
    Example:
      weir rejected list --code wrong_type --since 24h
    """
    chosen = _chosen(**given)
    with clear_errors():
        letters = letter_tables().list_rejected(chosen, limit)
    show_list(letters, "rejected events", COLUMNS, limit, as_json)


@command.command("show")
@click.argument("event_id", metavar="ID")
def show_command(event_id: str) -> None:
    """Show the rejected event ID with its payload.

    \b
    Example:
      weir rejected show 01a1fd6f-8faf-777b-86a6-dd52f10f1f92
    """
    with clear_errors():
        rows = letter_tables().show_rejected(_event_id(event_id))
    if not rows:
        raise click.ClickException(f"There is no rejected event {event_id}.")
    for row in rows:
        _show(row)


@command.command("replay")
@letter_filters.options(*REASONS)
@click.option(
    "--door",
    type=click.Choice(DOORS_FOR_REPLAY),
    help="Parse the payload as this door does.  [default: the door that received it]",
)
@replay_options
def replay_command(
    code: str | None,
    sent_by: str | None,
    source: str | None,
    since: str | None,
    until: str | None,
    ids: tuple[str, ...],
    door: str | None,
    **options: Any,
) -> None:
    """Send rejected events again, through the gateway's own checks, under their event ids, once each.

    An event is skipped if it was replayed before, or if its source and idempotency key are stored
    by now. The payload can be edited first, by paths into its JSON. VALUE is JSON, or else text.
    Events that are rejected again are shown, and the exit code is 1.

    \b
    Example:
      weir rejected replay --code wrong_type --since 24h --dry-run
      weir rejected replay --id 01a1fd6f-8faf-777b-86a6-dd52f10f1f92 --set value=12
    """
    chosen = _chosen(code, sent_by, source, since, until, ids)
    how = manner(**options)
    with clear_errors():
        sources = read_registry(settings_of(KafkaSettings)).sources
    replay(
        "rejected",
        chosen,
        how,
        lambda tables: tables.refused(chosen),
        lambda letter, partitions: rejected_events.plan(
            letter, how.edits, door, sources, partitions
        ),
    )


def _chosen(
    code: str | None,
    sent_by: str | None,
    source: str | None,
    since: str | None,
    until: str | None,
    ids: tuple[str, ...],
) -> LetterFilter:
    chosen = LetterFilter()
    chosen.equal({"code": code, "door": sent_by, "source": source})
    chosen.between("received_at", *letter_filters.times_of(since, until))
    chosen.any_of(
        [
            (f"event_id = {{id{at}:UUID}}", {f"id{at}": str(_event_id(text))})
            for at, text in enumerate(ids)
        ]
    )
    return chosen


def _event_id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise WrongInputError(
            f"{text} is not an event id; `weir rejected list` shows event ids."
        ) from None


def _show(row: dict[str, Any]) -> None:
    console = screen()
    console.print(Text(row["event_id"], style="bold"))
    for name in ("source", "door", "code", "field", "detail", "client_id", "received_at"):
        if row[name]:
            console.print(f"  {name:<12}{row[name]}", markup=False)
    payload = bytes.fromhex(row["payload"])
    try:
        lines = json.dumps(json.loads(payload), indent=2, ensure_ascii=False).splitlines()
    except ValueError:
        lines = [f"{len(payload):,} bytes, not JSON", *hex_lines(payload)]
    for line in lines:
        console.print(f"  {line}", markup=False)


if __name__ == "__main__":
    command()
