"""Values as ClickHouse's SQL has them, for statements whose values are too many for parameters."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

# A condition may have a portion twice, and a statement 256 KiB (`max_query_size`).
PORTION_BYTES = 100_000


def text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def is_in(expression: str, values: Iterable[str]) -> str:
    """A condition; of no values it is never true."""
    listed = ", ".join(text(value) for value in values)
    return f"{expression} IN ({listed})" if listed else "0"


def moment(ms: int) -> str:
    return f"fromUnixTimestamp64Milli({ms}, 'UTC')"


def portions(
    values: Mapping[str, Iterable[str]],
    written: Callable[[str], Collection[str]] = lambda value: (value,),
) -> Iterator[dict[str, list[str]]]:
    """Values by kind, so many at a time as a statement has room for; at least one portion, of every kind.

    What is true of a value in one of the portions is true in the whole: `IN` may be asked portion by
    portion, `NOT IN` may not. `written`: what a value stands there as.
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
