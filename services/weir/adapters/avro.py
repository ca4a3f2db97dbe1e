"""Avro single-object encoding: every record names its schema, so readers can resolve other generations.

A value is a 2-byte marker, the schema's 8-byte CRC-64-AVRO fingerprint (little-endian) and the datum
(https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding). A datum is the sequence of its
fields. So a prefix of a record can be read with a prefix of its schema, and a record can be extended by
appending encoded fields to its bytes.
"""

import io
from collections.abc import Callable, Mapping, Set
from functools import cache
from typing import Any

import fastavro

from weir.adapters.avro_catalogue import HEADER_BYTES as HEADER_BYTES
from weir.adapters.avro_catalogue import MARKER as MARKER
from weir.adapters.avro_catalogue import AvroRecord as AvroRecord
from weir.adapters.avro_catalogue import Catalogue as Catalogue
from weir.adapters.avro_catalogue import Schema as Schema
from weir.core.resource_paths import SCHEMAS


def string_length(text: bytes) -> bytes:
    """Return the length prefix of a string or bytes value, a zigzag varint."""
    length = len(text)
    return _LENGTHS[length] if length < len(_LENGTHS) else varint(length << 1)


def long(number: int) -> bytes:
    """Encode an `int` or `long` of up to 64 bits as a zigzag varint."""
    return varint(number << 1 ^ number >> 63)


def varint(number: int) -> bytes:
    """Encode a number that is already zigzagged in groups of seven bits, the least significant first."""
    if number < 0x80:
        return number.to_bytes()
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


_LENGTHS = tuple(varint(length << 1) for length in range(4_096))

TIME_BYTES = 6  # a zigzag varint of epoch milliseconds from 2004 to 2039


class TimeBases(dict[bytes, int]):
    """A cache from the last four of a time's six bytes to the milliseconds that they encode; -1: invalid bytes.

    An entry covers 8 seconds, so nearly every time is decoded by one look-up and its first two bytes,
    `low` and `high`: `base + ((low & 0x7F) >> 1) + ((high & 0x7F) << 6)`, provided that the base is not
    negative, `low & 0x81 == 0x80` (continued, positive) and `high & 0x80` (continued).
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
    """The value is not in single-object encoding, or its schema is unknown or unexpected."""


# What fastavro raises for bytes that do not match the schema: it documents no error class of its own.
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
    """The value names a known schema but is not a valid datum of it."""


class PrefixReader:
    """Reads the leading fields of one kind of record, up to `last_field`, and ignores what follows.

    It reads every generation of the schema. A field that a generation does not have gets its default.
    """

    def __init__(self, name: str, last_field: str) -> None:
        current = schemas()[name]
        self._name = name
        self._wanted = current.prefix(last_field)
        # by header: the prefix of the schema, and the defaults of fields that it lacks
        self._prefixes: dict[bytes, tuple[Schema, AvroRecord]] = {}

    def reads(self, value: bytes) -> bool:
        return self._prefix(value[:HEADER_BYTES]) is not None

    def read(self, value: bytes) -> AvroRecord:
        """Read the fields. `UnknownSchemaError`: another kind of record; `UnreadableError`: it is damaged."""
        found = self._prefix(value[:HEADER_BYTES])
        if found is None:
            raise UnknownSchemaError(f"unexpected schema {value[:HEADER_BYTES].hex()}")
        prefix, missing = found
        try:
            record = prefix.decode(value)
        except GARBAGE_ERRORS as fault:
            raise UnreadableError(
                f"truncated or damaged: {type(fault).__name__} {fault}"
            ) from fault
        return {**missing, **record} if missing else record

    def _prefix(self, header: bytes) -> tuple[Schema, AvroRecord] | None:
        found = self._prefixes.get(header)
        if found is None:
            schema = catalogue.find(header)
            if schema is None or schema.name != self._name:
                return None
            found = self._prefixes[header] = self._part(schema)
        return found

    def _part(self, schema: Schema) -> tuple[Schema, AvroRecord]:
        wanted = self._wanted.fields
        last = [name for name in schema.fields if name in wanted][-1]
        fields = [f for f in self._wanted.definition["fields"] if f["name"] not in schema.fields]
        return schema.prefix(last), {f["name"]: f["default"] for f in fields}


# The catalogue of this process: this version's `schemas/`, and what it learns from other versions.
catalogue = Catalogue(SCHEMAS)


def source_of(value: bytes) -> str:
    """Return the source in a record's leading fields; empty if there is none or it cannot be read."""
    schema = catalogue.find(value[:HEADER_BYTES])
    known = None if schema is None else schemas().get(schema.name)  # a later version may have more
    if schema is None or known is None or "source" not in known.fields:
        return ""
    try:
        return str(_source_reader(schema.name).read(value)["source"])
    except UnreadableError:
        return ""


@cache
def _source_reader(name: str) -> PrefixReader:
    return PrefixReader(name, "source")


def headers_of(name: str, last_field: str = "") -> Set[bytes]:
    """Return the headers of every generation of one kind of record; the set grows as generations are learned.

    `last_field`: only generations whose fields up to that one are the same as this version's.
    """
    return catalogue.headers(name, last_field)


def name_of(header: bytes) -> str:
    """Return the name of the schema with this header; empty if no version has it."""
    schema = catalogue.find(header)
    return "" if schema is None else schema.name


def is_one_of(*names: str) -> Callable[[bytes], bool]:
    """Return a check whether a value's schema has one of these names, in any generation."""
    return lambda value: name_of(value[:HEADER_BYTES]) in names


def schemas() -> Mapping[str, Schema]:
    """Return this version's schemas by name."""
    return catalogue.current


def schemas_by_header() -> Mapping[bytes, Schema]:
    """Return every known schema, of this version and of others, by the header of its values."""
    return catalogue.by_header


def schema_of(value: bytes) -> Schema:
    """Return the schema that a value names; `UnknownSchemaError` if no version has it."""
    schema = catalogue.find(value[:HEADER_BYTES])
    if schema is None:
        raise UnknownSchemaError(f"no schema of Weir starts with {value[:HEADER_BYTES].hex()}")
    return schema


def decode_any(value: bytes) -> tuple[str, AvroRecord]:
    """Return (name, record) of a value, resolved to the current schema of that name."""
    writer = schema_of(value)
    reader = schemas().get(writer.name, writer)  # only newer versions have other kinds
    if reader is writer:
        return writer.name, writer.decode(value)
    buffer = io.BytesIO(value)
    buffer.seek(HEADER_BYTES)
    record: AvroRecord = fastavro.schemaless_reader(buffer, writer.parsed, reader.parsed)
    return writer.name, record


def read_whole(value: bytes) -> AvroRecord:
    """Return the record of `decode_any`; `UnreadableError` if the value is truncated or damaged."""
    try:
        return decode_any(value)[1]
    except GARBAGE_ERRORS as fault:
        raise UnreadableError(f"truncated or damaged: {type(fault).__name__} {fault}") from fault


def read_as_written(value: bytes) -> tuple[Schema, AvroRecord]:
    """Return (schema, record) of a value in its own schema, with which it can be rewritten without losing a field.

    `UnknownSchemaError`, `UnreadableError`.
    """
    schema = schema_of(value)
    try:
        return schema, schema.decode(value)
    except GARBAGE_ERRORS as fault:
        raise UnreadableError(f"truncated or damaged: {type(fault).__name__} {fault}") from fault


def ordinary(schema: Schema) -> bytes:
    """Return a value of the schema that no reader refuses: zeros, empty texts and empty lists."""
    record: AvroRecord = _zero(schema.definition, dict(_ZEROS))
    return schema.encode(record)


_ZEROS: dict[str, Any] = {
    "string": "",
    "bytes": b"",
    "int": 0,
    "long": 0,
    "float": 0.0,
    "double": 0.0,
    "boolean": False,
    "null": None,
}


def _zero(kind: Any, named: dict[str, Any]) -> Any:
    """Return the zero of an Avro type; `named` has those of the types that are named."""
    if isinstance(kind, str):
        return named[kind.rpartition(".")[2]]
    if isinstance(kind, list):  # a union: its first branch
        return _zero(kind[0], named)
    match kind["type"]:
        case "record":
            zero: Any = {field["name"]: _zero(field["type"], named) for field in kind["fields"]}
        case "fixed":
            zero = bytes(kind["size"])
        case "enum":
            zero = kind["symbols"][0]
        case "array":
            return []
        case "map":
            return {}
        case inner:
            return _zero(inner, named)
    named[kind["name"].rpartition(".")[2]] = zero
    return zero
