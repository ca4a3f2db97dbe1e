"""Shared by all commands: reading settings, one-sentence errors, exit codes, and consoles.

Exit codes: 0 yes; 1 no (refused, not balanced, not delivered); 2 wrong usage; 3 a service that
Weir needs does not answer.
"""

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.text import Text

from weir.adapters.errors import RefusedError, UnavailableError
from weir.settings.environment import SettingsError, load

EXIT_NO = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
WIDE = 100_000  # characters
CELL_CHARACTERS = 48

T = TypeVar("T")


class UnreachableError(click.ClickException):
    """A service that the command needs does not answer; the message says what to start."""

    exit_code = EXIT_UNREACHABLE


class WrongInputError(click.ClickException):
    """The user's input cannot be used; the message says what to correct."""

    exit_code = EXIT_USAGE


class TimeParam(click.ParamType[datetime]):
    """A click parameter type: an ISO 8601 time, in UTC unless it has an offset."""

    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value} is not a time such as 2026-01-31T12:00 (UTC)", param, ctx)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def settings_of(cls: type[T]) -> T:
    """Return the settings of `cls` from the environment. `WrongInputError` lists every fault at once."""
    try:
        return load(cls, os.environ)
    except SettingsError as error:
        raise WrongInputError("; ".join(error.faults)) from None


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn an adapter's error into a click error with the same sentence, which ends the command."""
    try:
        yield
    except UnavailableError as error:
        raise UnreachableError(str(error)) from None
    except RefusedError as error:
        raise click.ClickException(str(error)) from None


def screen() -> Console:
    """Return a console for results, made at each call so that it writes to the current standard output.

    Output into a pipe is neither cut nor wrapped.
    """
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)


def cell(text: str, style: str = "") -> Text:
    """Return a table cell for text that a client chose, cut so that a long name does not widen the table."""
    long = len(text) > CELL_CHARACTERS
    return Text(text[: CELL_CHARACTERS - 1] + "…" if long else text, style)


def notes() -> Console:
    """Return a console for progress and remarks: standard error, so that results can be piped."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


class NumberRange(click.FloatRange):
    """A click parameter type: a finite number in a range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number
