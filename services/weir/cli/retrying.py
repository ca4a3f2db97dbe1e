"""Retries while Kafka or ClickHouse is unavailable for a moment, the same for all commands."""

import time
from collections.abc import Callable
from typing import TypeVar

import click
from rich.markup import escape

from weir.adapters.errors import RefusedError, UnavailableError
from weir.cli.base import UnreachableError, notes, settings_of
from weir.settings.cli import CommandSettings

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0

T = TypeVar("T")


def with_retries(work: Callable[[], T]) -> T:
    """Return the result of `work`. Retry it on errors that may pass, so `work` must be safe to repeat.

    Retries last `WEIR_COMMAND_PATIENCE` seconds from the first error: no attempt begins later, and a
    running attempt is not interrupted. `UnreachableError`, with the error's sentence, if the error lasts
    longer. An error that cannot pass ends the command at once.
    """
    patience = settings_of(CommandSettings).command_patience
    deadline: float | None = None
    pause, shown = FIRST_PAUSE_SECONDS, ""
    while True:
        try:
            done = work()
        except (UnavailableError, RefusedError) as fault:
            if isinstance(fault, RefusedError) and not fault.passing:
                raise click.ClickException(str(fault)) from None
            now = time.monotonic()
            deadline = now + patience if deadline is None else deadline
            left = deadline - now
            if left <= 0:
                raise UnreachableError(_given_up(fault, patience)) from None
            if str(fault) != shown:
                shown = str(fault)
                text = f"{escape(shown)} Trying again for {left:.0f} s."
                notes().print(f"[yellow]{text}[/]")
            time.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        else:
            if shown:
                notes().print("Connected again, continuing.")
            return done


def _given_up(fault: Exception, patience: float) -> str:
    if not patience:
        return str(fault)
    return f"{fault} Gave up after {patience:g} s; the command can be run again."
