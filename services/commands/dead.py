"""`weir dead`: the dead letters, and what is in them."""

import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec
from rich.table import Table
from rich.text import Text

from services.commands.base import (
    WrongInputError,
    clear_errors,
    notes,
    screen,
    settings_of,
)
from services.edge.avro import Record, UnknownSchemaError, decode_any
from services.edge.clickhouse_query import ClickHouse
from services.runtime.config import ClickHouseSettings

AGE = re.compile(r"(\d+)\s*([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
PLACE = re.compile(r"(.+)/(\d+)/(\d+)")
HEX_BYTES = 512
NO_ID = "00000000-0000-0000-0000-000000000000"
FILTERS = {"step": "step", "reason": "reason", "source": "source"}


@click.group("dead")
def command() -> None:
    """List and show dead letters: records that a worker or ClickHouse could not process.

    \b
    Example:
      weir dead list --since 1h
      weir dead show events.accepted/3/1204
    """


@command.command("list")
@click.option("--step", help="Who gave up: dedup, identity, rates or sink.")
@click.option("--reason", help="Why, as in the column `reason`.")
@click.option("--source", help="Whose.")
@click.option("--since", help="At most so old (90m, 24h, 7d), or from a time (UTC) on.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_command(since: str | None, limit: int, as_json: bool, **filters: str | None) -> None:
    """List dead letters, the latest first.

    \b
    Example:
      weir dead list --step sink --since 24h
    """
    moment = moment_of(since, datetime.now(UTC)) if since else None
    letters = _letters(filters, moment, limit)
    if as_json:
        screen().print(msgspec.json.encode(letters).decode(), markup=False)
        return
    if not letters:
        screen().print("No dead letters.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("died at", "id", "step", "source", "reason", "detail"):
        table.add_column(name)
    for letter in letters:
        names = ("died_at", "id", "step", "source", "reason", "detail")
        table.add_row(*(Text(str(letter[name])) for name in names))
    screen().print(table)
    if len(letters) == limit:
        notes().print(f"[dim]The latest {limit}; --limit shows more.[/]")


@command.command("show")
@click.argument("letter_id", metavar="ID")
def show_command(letter_id: str) -> None:
    """Show the dead letter ID (topic/partition/offset, or an event id) with what it holds.

    \b
    Example:
      weir dead show events.accepted/3/1204
    """
    condition, parameters = _identified(letter_id)
    with clear_errors():
        clickhouse, table = _warehouse()
        rows = clickhouse.records(
            f"SELECT *, hex(key) AS key, hex(value) AS value FROM (SELECT * FROM {table} FINAL)"
            f" WHERE {condition} ORDER BY origin_topic, origin_partition, origin_offset, step",
            parameters,
        )
    if not rows:
        raise click.ClickException(f"There is no dead letter {letter_id}.")
    for row in rows:
        _show(row)


def _warehouse() -> tuple[ClickHouse, str]:
    settings = settings_of(ClickHouseSettings)
    return ClickHouse(settings), f"{settings.clickhouse_database}.dead"


def _letters(
    filters: Mapping[str, str | None], moment: datetime | None, limit: int
) -> list[dict[str, Any]]:
    conditions = ["1"]
    parameters: dict[str, Any] = {"limit": limit}
    for name, value in filters.items():
        if value is not None:
            conditions.append(f"{FILTERS[name]} = {{{name}:String}}")
            parameters[name] = value
    if moment is not None:
        conditions.append("d.died_at >= fromUnixTimestamp64Milli({moment:Int64}, 'UTC')")
        parameters["moment"] = int(moment.timestamp() * 1_000)
    with clear_errors():
        clickhouse, table = _warehouse()
        return clickhouse.records(
            "SELECT concat(origin_topic, '/', toString(origin_partition), '/',"
            " toString(origin_offset)) AS id, toString(died_at) AS died_at, step, source, reason,"
            " detail, toString(event_id) AS event_id, version, length(value) AS bytes"
            f" FROM {table} AS d FINAL WHERE {' AND '.join(conditions)}"
            " ORDER BY d.died_at DESC, id LIMIT {limit:UInt32}",
            parameters,
        )


def moment_of(text: str, now: datetime) -> datetime:
    """`90m` before `now`, or the time that `text` is."""
    age = AGE.fullmatch(text.strip())
    if age:
        return now - timedelta(**{UNITS[age[2]]: int(age[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WrongInputError(
            f"--since {text}: neither an age such as 90m, 24h or 7d nor a time such as"
            " 2026-01-31T12:00."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _identified(letter_id: str) -> tuple[str, dict[str, Any]]:
    place = PLACE.fullmatch(letter_id)
    if place:
        condition = (
            "origin_topic = {topic:String} AND origin_partition = {partition:Int32}"
            " AND origin_offset = {offset:Int64}"
        )
        found = {"topic": place[1], "partition": int(place[2]), "offset": int(place[3])}
        return condition, found
    try:
        return "event_id = {event_id:UUID}", {"event_id": str(uuid.UUID(letter_id))}
    except ValueError:
        raise WrongInputError(
            f"{letter_id} is neither topic/partition/offset nor an event id; `weir dead list`"
            " shows both."
        ) from None


def _show(row: dict[str, Any]) -> None:
    console = screen()
    place = f"{row['origin_topic']}/{row['origin_partition']}/{row['origin_offset']}"
    console.print(Text(place, style="bold"))
    for name in ("step", "version", "reason", "detail", "source", "died_at"):
        console.print(f"  {name:<12}{row[name]}", markup=False)
    if row["event_id"] != NO_ID:
        console.print(f"  {'event_id':<12}{row['event_id']}", markup=False)
        console.print(f"  {'received_at':<12}{row['received_at']}", markup=False)
    key, value = bytes.fromhex(row["key"]), bytes.fromhex(row["value"])
    console.print(f"  {'key':<12}{key!r}", markup=False)
    for line in told(value):
        console.print(f"  {line}", markup=False)


def told(value: bytes) -> list[str]:
    """What a record's value holds: its fields if it is one of ours and whole, else its bytes."""
    try:
        name, record = decode_any(value)
        text = json.dumps(readable(record), indent=2, ensure_ascii=False)
    except UnknownSchemaError as error:
        return [f"{len(value):,} bytes, not decoded: {error}", *hex_lines(value)]
    except (ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        return [
            f"{len(value):,} bytes, cut short or damaged ({type(error).__name__})",
            *hex_lines(value),
        ]
    return [f"{name}, {len(value):,} bytes:", *text.splitlines()]


def readable(record: Record) -> dict[str, Any]:
    """A record for people: ids as text, JSON as JSON, other bytes in hex."""
    return {name: _readable(name, value) for name, value in record.items()}


def _readable(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return str(uuid.UUID(bytes=value)) if name.endswith("event_id") else value.hex()
    if isinstance(value, dict):
        return readable(value)
    if name in ("properties", "context", "traits"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def hex_lines(value: bytes) -> list[str]:
    """The first bytes as an editor shows them."""
    lines = []
    for start in range(0, min(len(value), HEX_BYTES), 16):
        row = value[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:06x}  {row.hex(' '):<47}  {text}")
    if len(value) > HEX_BYTES:
        lines.append(f"... {len(value) - HEX_BYTES:,} more bytes")
    return lines


if __name__ == "__main__":
    command()
