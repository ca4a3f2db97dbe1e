"""Values as ClickHouse's SQL has them, for statements whose values are too many for parameters."""

from collections.abc import Iterable


def text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def is_in(expression: str, values: Iterable[str]) -> str:
    """A condition; of no values it is never true."""
    listed = ", ".join(text(value) for value in values)
    return f"{expression} IN ({listed})" if listed else "0"


def moment(ms: int) -> str:
    return f"fromUnixTimestamp64Milli({ms}, 'UTC')"
