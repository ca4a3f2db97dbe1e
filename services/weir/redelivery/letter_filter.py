"""Build the WHERE clause of a query that selects letters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class LetterFilter:
    """Conditions joined by AND, and the values of their parameters."""

    conditions: list[str] = field(default_factory=lambda: ["1"])
    parameters: dict[str, Any] = field(default_factory=dict)

    def where(self) -> str:
        return " AND ".join(self.conditions)

    def equal(self, values: Mapping[str, str | None]) -> None:
        """Require columns, by name, to equal a value; skip those whose value is None."""
        for name, value in values.items():
            if value is not None:
                self.conditions.append(f"{name} = {{{name}:String}}")
                self.parameters[name] = value

    def between(self, column: str, since: datetime | None, until: datetime | None) -> None:
        """Require a time from `since` on and before `until`; None: no bound."""
        for name, sign, time in (("since", ">=", since), ("until", "<", until)):
            if time is not None:
                bound = f"fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')"
                self.conditions.append(f"{column} {sign} {bound}")
                self.parameters[name] = int(time.timestamp() * 1_000)

    def before_now(self, column: str) -> None:
        """Exclude letters that arrive from now on: a record that a replay sends may die again, as a new letter."""
        self.conditions.append(f"{column} < fromUnixTimestamp64Milli({{begun:Int64}}, 'UTC')")
        self.parameters["begun"] = int(datetime.now(UTC).timestamp() * 1_000)

    def any_of(self, choices: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Require one of these conditions; without conditions, no restriction."""
        if choices:
            self.conditions.append(f"({' OR '.join(condition for condition, _ in choices)})")
            for _, parameters in choices:
                self.parameters.update(parameters)
