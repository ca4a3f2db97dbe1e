"""Filter options of `list` and `replay` for dead letters and rejected events, and the times they accept."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from weir.cli.base import WrongInputError

AGE = re.compile(r"(\d+)\s*([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]


def options(*reasons: Decorator) -> Callable[[F], F]:
    """Return a decorator that adds the filter options, in `--help` order; `reasons`: those of one kind of letter."""
    shared: list[Decorator] = [
        *reasons,
        click.option("--source", help="Only this source."),
        click.option(
            "--since", help="At most this old (90m, 24h, 7d), or from this time (UTC) on."
        ),
        click.option("--until", help="Older than this (90m, 24h, 7d), or before this time (UTC)."),
        click.option(
            "--id", "ids", multiple=True, metavar="ID", help="Only this one; may be repeated."
        ),
    ]

    def decorate(function: F) -> F:
        for option in reversed(shared):
            function = option(function)
        return function

    return decorate


def times_of(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """Return the times of `--since` and `--until`, each given as an age or a time; None if not given."""
    now = datetime.now(UTC)
    return (
        None if since is None else time_of(since, now, "--since"),
        None if until is None else time_of(until, now, "--until"),
    )


def time_of(text: str, now: datetime, option: str = "--since") -> datetime:
    """Return the time that `text` gives: an age before `now` (`90m`), or a time. `WrongInputError` if neither."""
    age = AGE.fullmatch(text.strip())
    if age:
        try:
            return now - timedelta(**{UNITS[age[2]]: int(age[1])})
        except (OverflowError, ValueError):
            raise WrongInputError(f"{option} {text} is before the calendar begins.") from None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise WrongInputError(
            f"{option} {text} is neither an age such as 90m, 24h or 7d nor a time such as"
            " 2026-01-31T12:00."
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
