"""Avro single-object encoding: every record names its schema, so any reader can resolve an older one.

A value is a 2-byte marker, the schema's 8-byte CRC-64-AVRO fingerprint (little-endian) and the datum
(https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding). A datum is its fields in
order, so a prefix of a record is read with a prefix of its schema, and a longer record is made by
appending fields to the bytes of a shorter one.
"""

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from services.core.paths import SCHEMAS

MARKER = b"\xc3\x01"
HEADER_BYTES = 10

Record = dict[str, Any]


def string_length(text: bytes) -> bytes:
    """What precedes a string's or bytes' content: its length as a zigzag varint."""
    length = len(text)
    return _LENGTHS[length] if length < len(_LENGTHS) else varint(length << 1)


def long(number: int) -> bytes:
    """An `int` or `long` of 64 bits: a zigzag varint."""
    return varint(number << 1 ^ number >> 63)


def varint(number: int) -> bytes:
    """A number, zigzagged already, in groups of seven bits, the least first."""
    if number < 0x80:
        return number.to_bytes()
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


_LENGTHS = tuple(varint(length << 1) for length in range(512))

TIME_BYTES = 6  # a zigzag varint of epoch milliseconds from 2004 to 2039


class TimeBases(dict[bytes, int]):
    """The last four of a time's six bytes, to the milliseconds they stand for; -1: no such end.

    A value lasts for 8 seconds of time, so nearly every time is read by one look-up and its first
    two bytes, `low` and `high`: `base + ((low & 0x7F) >> 1) + ((high & 0x7F) << 6)`, provided that
    the base is not negative, `low & 0x81 == 0x80` (continued, positive) and `high & 0x80` (continued).
    """

    KEPT = 1_000

    def __missing__(self, end: bytes) -> int:
        if len(self) >= self.KEPT:
            self.clear()
        base = -1
        if len(end) == 4 and int.from_bytes(end) & 0x80808080 == 0x80808000:
            first, second, third, last = end
            base = (first & 0x7F) << 13 | (second & 0x7F) << 20 | (third & 0x7F) << 27 | last << 34
        self[end] = base
        return base


class UnknownSchemaError(ValueError):
    """The value is not in single-object encoding, or its schema is not among ours."""


class Schema:
    """One `.avsc`: its name, its parsed form, and the header that its values start with."""

    def __init__(self, definition: dict[str, Any]) -> None:
        self.definition = definition
        self.name: str = definition["name"]
        self.parsed = fastavro.parse_schema(json.loads(json.dumps(definition)))
        digest = fingerprint(to_parsing_canonical_form(self.parsed), "CRC-64-AVRO")
        self.header = MARKER + int(digest, 16).to_bytes(8, "little")
        self.fields: list[str] = [field["name"] for field in definition["fields"]]

    def encode(self, record: Record) -> bytes:
        buffer = io.BytesIO()
        buffer.write(self.header)
        fastavro.schemaless_writer(buffer, self.parsed, record)
        return buffer.getvalue()

    def decode(self, value: bytes) -> Record:
        """Read a value of exactly this schema; `decode_any` reads any."""
        buffer = io.BytesIO(value)
        buffer.seek(HEADER_BYTES)
        record: Record = fastavro.schemaless_reader(buffer, self.parsed, None)
        return record

    def prefix(self, last_field: str) -> "Schema":
        """The schema of this one's leading fields, up to and with `last_field`."""
        return Schema(self._part(self.fields.index(last_field) + 1))

    def _part(self, end: int) -> dict[str, Any]:
        return {**self.definition, "fields": self.definition["fields"][:end]}


# What fastavro raises on bytes that are not of the schema: it documents no error class of its own.
GARBAGE_ERRORS = (
    EOFError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    StopIteration,
    MemoryError,
)


class UnreadableError(ValueError):
    """The value names a schema of ours but is not a datum of it."""


class PrefixReader:
    """Reads the leading fields of one kind of record, up to `last_field`, whatever follows them.

    Works for every version of the schema, since fields are only ever appended.
    """

    def __init__(self, name: str, last_field: str) -> None:
        self._prefixes = {
            header: schema.prefix(last_field)
            for header, schema in schemas_by_header().items()
            if schema.name == name
        }

    def reads(self, value: bytes) -> bool:
        return value[:HEADER_BYTES] in self._prefixes

    def read(self, value: bytes) -> Record:
        """`UnknownSchemaError` for another kind of record, `UnreadableError` for a damaged one."""
        prefix = self._prefixes.get(value[:HEADER_BYTES])
        if prefix is None:
            raise UnknownSchemaError(f"unexpected schema {value[:HEADER_BYTES].hex()}")
        try:
            return prefix.decode(value)
        except GARBAGE_ERRORS as fault:
            raise UnreadableError(
                f"cut short or damaged: {type(fault).__name__} {fault}"
            ) from fault


def source_of(value: bytes) -> str:
    """The source that a record's leading fields name; empty: none, or it cannot be read."""
    try:
        return str(_source_readers()[value[:HEADER_BYTES]].read(value)["source"])
    except (KeyError, UnreadableError):
        return ""


@cache
def _source_readers() -> dict[bytes, PrefixReader]:
    """By header, of all records that say whose they are."""
    found = schemas_by_header().items()
    return {h: PrefixReader(s.name, "source") for h, s in found if "source" in s.fields}


def headers_of(name: str) -> frozenset[bytes]:
    """The headers of every version, current and past, of one kind of record."""
    return frozenset(h for h, schema in schemas_by_header().items() if schema.name == name)


@cache
def schemas() -> dict[str, Schema]:
    """Every current schema by name."""
    return {s.name: s for s in (_read(path) for path in sorted(SCHEMAS.glob("*.avsc")))}


@cache
def schemas_by_header() -> dict[bytes, Schema]:
    """Every schema ever written, current and past (`schemas/past/`), by the header of its values."""
    past = (_read(path) for path in sorted(SCHEMAS.glob("past/*.avsc")))
    return {s.header: s for s in (*past, *schemas().values())}


def schema_of(value: bytes) -> Schema:
    """The schema that a value names; `UnknownSchemaError` if it names none of ours."""
    schema = schemas_by_header().get(value[:HEADER_BYTES])
    if schema is None:
        raise UnknownSchemaError(f"no schema of ours starts with {value[:HEADER_BYTES].hex()}")
    return schema


def decode_any(value: bytes) -> tuple[str, Record]:
    """The name and the content of a value, resolved to the current schema of that name."""
    writer = schema_of(value)
    reader = schemas()[writer.name]
    if reader is writer:
        return writer.name, writer.decode(value)
    buffer = io.BytesIO(value)
    buffer.seek(HEADER_BYTES)
    record: Record = fastavro.schemaless_reader(buffer, writer.parsed, reader.parsed)
    return writer.name, record


def read_whole(value: bytes) -> Record:
    """As `decode_any`; `UnreadableError` for a value that is not all there."""
    try:
        return decode_any(value)[1]
    except GARBAGE_ERRORS as fault:
        raise UnreadableError(f"cut short or damaged: {type(fault).__name__} {fault}") from fault


def _read(path: Path) -> Schema:
    return Schema(json.loads(path.read_text()))
