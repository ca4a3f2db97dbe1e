"""`weir where`: find out what became of one event."""

from collections.abc import Callable
from typing import Any

import click
import msgspec
from rich.text import Text

from weir.adapters.errors import UnavailableError
from weir.cli.base import (
    EXIT_NO,
    EXIT_UNREACHABLE,
    NumberRange,
    UnreachableError,
    WrongInputError,
    screen,
    settings_of,
)
from weir.cli.progress import reporting
from weir.cli.retrying import with_retries
from weir.event_status.lookup import EventStatusLookup
from weir.event_status.model import EventStatus
from weir.settings.shared import ClickHouseSettings, KafkaSettings

COLORS = {"stored": "green", "queued": "yellow", "rejected": "red", "dead": "red"}


@click.command("where")
@click.argument("event", metavar="ID")
@click.option(
    "--source", default="", help="Search only this source; finds a client's own id faster."
)
@click.option(
    "--seconds",
    default=20.0,
    show_default=True,
    type=NumberRange(1),
    help="Read the topics for at most this many seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(event: str, source: str, seconds: float, as_json: bool) -> None:
    """Show where the event ID is: queued, stored, duplicate, rejected, dead, unsaved or unknown.

    ID is an event_id, or the client's own id or idempotency key. ClickHouse and the topics are
    searched; if one is unavailable, the other answers. Exit code 0: found; 1: unknown; 3: cannot
    tell.

    \b
    Example:
      weir where 01a1fd6f-8faf-777b-86a6-dd52f10f1f92
      weir where order-17 --source shop
    """
    sought = event.strip()
    if any("\ud800" <= character <= "\udfff" for character in sought):
        raise WrongInputError("ID is not UTF-8 text.")
    if not sought:
        raise WrongInputError("ID is empty: give an event_id or the id that the client sent.")
    lookup = EventStatusLookup(settings_of(KafkaSettings), settings_of(ClickHouseSettings))
    status = _found(lambda: lookup.find(sought, (source,) if source else None, seconds))
    if as_json:
        screen().print(msgspec.json.encode(status).decode(), markup=False)
    else:
        for line in status_lines(status):
            screen().print(line)
    if status.fate == "unknown":
        raise SystemExit(EXIT_NO if status.certain else EXIT_UNREACHABLE)


class _UncertainError(UnavailableError):
    """The places that could be searched do not have the event."""

    def __init__(self, status: EventStatus) -> None:
        super().__init__(" ".join((*status.notes, status.advice)))


def _found(find: Callable[[], EventStatus]) -> EventStatus:
    """Return the event's status. While it is uncertain, ask again, for as long as commands retry."""
    status: EventStatus | None = None

    def work() -> None:
        nonlocal status
        status = find()
        if status.fate == "unknown" and not status.certain:
            raise _UncertainError(status)

    try:
        with reporting() as report:
            report.show_step("searching ClickHouse and the topics")
            with_retries(work)
    except UnreachableError:
        if status is None:
            raise
    assert status is not None
    return status


def status_lines(status: EventStatus) -> list[Text]:
    """Return the status as lines: the outcome, what is known, the times, notes and advice."""
    head = status.fate if status.stage is None else f"{status.fate} for {status.stage}"
    lines = [Text.assemble((head, f"bold {COLORS.get(status.fate, '')}"), f"  {status.id}")]
    known: dict[str, Any] = {"event_id": status.event_id, "source": status.source, **status.facts}
    known |= {"since": status.since} if status.stage else {}
    for name, value in (known | status.times).items():
        if value not in (None, ""):
            shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            lines.append(Text(f"  {name:<18}{shown}"))
    lines += [Text(f"  {note}", style="dim") for note in status.notes]
    return [*lines, Text(status.advice)]


if __name__ == "__main__":
    command()
