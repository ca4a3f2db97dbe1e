"""What every command shares: settings, clear one-sentence errors, exit codes, consoles.

Exit codes: 0 yes; 1 no (refused, not balanced, not delivered); 2 wrong usage; 3 something Weir
needs does not answer.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

import click
from rich.console import Console
from rich.text import Text

from weir.adapters.errors import NotReachedError, RefusedError
from weir.settings.environment import SettingsError, load

EXIT_NO = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
WIDE = 100_000  # characters
CELL_CHARACTERS = 48

T = TypeVar("T")


class UnreachableError(click.ClickException):
    """Something that the command needs does not answer; the sentence says what to start."""

    exit_code = EXIT_UNREACHABLE


class WrongInputError(click.ClickException):
    """What the user gave cannot be used; the sentence says what to mend."""

    exit_code = EXIT_USAGE


class Moment(click.ParamType[datetime]):
    """A time as people write it; UTC unless it says otherwise."""

    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value} is not a time such as 2026-01-31T12:00 (UTC)", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def settings_of(cls: type[T]) -> T:
    """The settings of `cls` from the environment; every fault at once otherwise."""
    try:
        return load(cls, os.environ)
    except SettingsError as error:
        raise WrongInputError("; ".join(error.faults)) from None


@contextmanager
def clear_errors() -> Iterator[None]:
    """What an edge could not do ends the command with its one sentence."""
    try:
        yield
    except NotReachedError as error:
        raise UnreachableError(str(error)) from None
    except RefusedError as error:
        raise click.ClickException(str(error)) from None


def screen() -> Console:
    """Where results go. Made at each call, so that it writes to the present standard output.

    Into a pipe nothing is cut or wrapped.
    """
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)


def cell(text: str, style: str = "") -> Text:
    """Return a table's cell for what somebody else chose: cut, so that one name widens no table."""
    long = len(text) > CELL_CHARACTERS
    return Text(text[: CELL_CHARACTERS - 1] + "…" if long else text, style)


def notes() -> Console:
    """Where progress and remarks go: standard error, so that results can be piped."""
    return Console(stderr=True, highlight=False, soft_wrap=True)
