"""Which letters are meant, as conditions of a query."""

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
        """Columns by name; those without a value do not count."""
        for name, value in values.items():
            if value is not None:
                self.conditions.append(f"{name} = {{{name}:String}}")
                self.parameters[name] = value

    def between(self, column: str, since: datetime | None, until: datetime | None) -> None:
        """From a time on, and before one."""
        for name, sign, time in (("since", ">=", since), ("until", "<", until)):
            if time is not None:
                bound = f"fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')"
                self.conditions.append(f"{column} {sign} {bound}")
                self.parameters[name] = int(time.timestamp() * 1_000)

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
