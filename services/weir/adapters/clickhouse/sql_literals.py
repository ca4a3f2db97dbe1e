"""Format values as ClickHouse SQL literals, for statements with too many values for parameters."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

# A condition may contain a portion twice, and a statement may have 256 KiB (`max_query_size`).
PORTION_BYTES = 100_000


def text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def is_in(expression: str, values: Iterable[str]) -> str:
    """Return an IN condition; without values it is never true."""
    listed = ", ".join(text(value) for value in values)
    return f"{expression} IN ({listed})" if listed else "0"


def time_literal(ms: int) -> str:
    return f"fromUnixTimestamp64Milli({ms}, 'UTC')"


def portions(
    values: Mapping[str, Iterable[str]],
    written: Callable[[str], Collection[str]] = lambda value: (value,),
) -> Iterator[dict[str, list[str]]]:
    """Yield portions {kind: values} that fit into a statement; at least one portion, and each has every kind.

    A condition that is true for one portion is true for all values together: so use `IN` portion by portion,
    but not `NOT IN`. `written`: the forms in which a value appears in the statement.
    """
    portion: dict[str, list[str]] = {kind: [] for kind in values}
    size = 0
    for kind, of_kind in values.items():
        for value in of_kind:
            length = sum(len(text(form).encode()) + len(", ") for form in written(value))
            if size and size + length > PORTION_BYTES:
                yield portion
                portion, size = {kind: [] for kind in values}, 0
            portion[kind].append(value)
            size += length
    yield portion
