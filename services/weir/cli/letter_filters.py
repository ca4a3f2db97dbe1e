"""Which letters are meant: the options of list and replay, as conditions of a query."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from weir.cli.base import WrongInputError

AGE = re.compile(r"(\d+)\s*([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]


@dataclass(frozen=True)
class Chosen:
    """Conditions joined by AND, and the values of their parameters."""

    conditions: list[str] = field(default_factory=lambda: ["1"])
    parameters: dict[str, Any] = field(default_factory=dict)

    def where(self) -> str:
        return " AND ".join(self.conditions)

    def equal(self, values: Mapping[str, str | None]) -> None:
        """Columns by name; those without a value do not count."""
        for name, value in values.items():
            if value is not None:
                self.conditions.append(f"{name} = {{{name}:String}}")
                self.parameters[name] = value

    def between(self, column: str, since: str | None, until: str | None) -> None:
        """From a time on, and before one; either an age or a time."""
        now = datetime.now(UTC)
        for name, sign, text in (("since", ">=", since), ("until", "<", until)):
            if text is not None:
                bound = f"fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')"
                self.conditions.append(f"{column} {sign} {bound}")
                moment = moment_of(text, now, f"--{name}")
                self.parameters[name] = int(moment.timestamp() * 1_000)

    def before_now(self, column: str) -> None:
        """Nothing that comes meanwhile: what a replay sends may die again, as a letter of its own."""
        self.conditions.append(f"{column} < fromUnixTimestamp64Milli({{begun:Int64}}, 'UTC')")
        self.parameters["begun"] = int(datetime.now(UTC).timestamp() * 1_000)

    def any_of(self, choices: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """One of these conditions; none given: any."""
        if choices:
            self.conditions.append(f"({' OR '.join(condition for condition, _ in choices)})")
            for _, parameters in choices:
                self.parameters.update(parameters)


def options(*reasons: Decorator) -> Callable[[F], F]:
    """The options that list and replay share, in the order of `--help`; `reasons`: those of the kind."""
    shared: list[Decorator] = [
        *reasons,
        click.option("--source", help="Whose."),
        click.option("--since", help="At most so old (90m, 24h, 7d), or from a time (UTC) on."),
        click.option("--until", help="Older than that, or before a time (UTC)."),
        click.option("--id", "ids", multiple=True, metavar="ID", help="This one; may be repeated."),
    ]

    def decorate(function: F) -> F:
        for option in reversed(shared):
            function = option(function)
        return function

    return decorate


def moment_of(text: str, now: datetime, option: str = "--since") -> datetime:
    """`90m` before `now`, or the time that `text` is."""
    age = AGE.fullmatch(text.strip())
    if age:
        return now - timedelta(**{UNITS[age[2]]: int(age[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WrongInputError(
            f"{option} {text}: neither an age such as 90m, 24h or 7d nor a time such as"
            " 2026-01-31T12:00."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
