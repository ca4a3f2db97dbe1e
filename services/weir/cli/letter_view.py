"""Shows dead letters and rejected events in readable form."""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from weir.adapters.avro import AvroRecord, UnknownSchemaError, decode_any
from weir.cli.base import cell, notes, screen

HEX_BYTES = 512


def show_list(
    letters: Sequence[Mapping[str, Any]], what: str, names: Iterable[str], limit: int, as_json: bool
) -> None:
    """Print one line per letter, or JSON; `letters` has at most `limit` of them. `what`: their name."""
    if as_json:
        screen().print(msgspec.json.encode(letters).decode(), markup=False)
        return
    if not letters:
        screen().print(f"No {what}.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = tuple(names)
    for name in columns:
        table.add_column(name.replace("_", " "))
    for letter in letters:
        table.add_row(
            *(
                cell(letter[name]) if name == "source" else Text(str(letter[name]))
                for name in columns
            )
        )
    screen().print(table)
    if len(letters) == limit:
        notes().print(f"[dim]Only the latest {limit} are shown; --limit shows more.[/]")


def value_lines(value: bytes) -> list[str]:
    """Return lines that show a record's value: its fields if it is an intact record of Weir, else its bytes."""
    try:
        name, record = decode_any(value)
        text = json.dumps(readable(record), indent=2, ensure_ascii=False)
    except UnknownSchemaError as error:
        return [f"{len(value):,} bytes, not decoded: {error}", *hex_lines(value)]
    except (ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        return [
            f"{len(value):,} bytes, truncated or damaged ({type(error).__name__})",
            *hex_lines(value),
        ]
    return [f"{name}, {len(value):,} bytes:", *text.splitlines()]


def readable(record: AvroRecord) -> dict[str, Any]:
    """Return a record in readable form: event ids as text, JSON as JSON, other bytes in hex."""
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
    """Return a hex dump of the first HEX_BYTES bytes, in lines."""
    lines = []
    for start in range(0, min(len(value), HEX_BYTES), 16):
        row = value[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:06x}  {row.hex(' '):<47}  {text}")
    if len(value) > HEX_BYTES:
        lines.append(f"... {len(value) - HEX_BYTES:,} more bytes")
    return lines
