"""Avro schemas by the header of their records: schemas of this version, of earlier and of other versions.

`schemas/` has the schemas of this version, `schemas/past/` those of earlier versions.
"""

import io
import json
import threading
from collections.abc import Callable, Iterable, Set
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

MARKER = b"\xc3\x01"
HEADER_BYTES = 10

AvroRecord = dict[str, Any]


class Schema:
    """One Avro schema: its name, its parsed form, and the header with which its values start."""

    def __init__(self, definition: dict[str, Any]) -> None:
        self.definition = definition
        self.name: str = definition["name"]
        self.parsed = fastavro.parse_schema(json.loads(json.dumps(definition)))
        digest = fingerprint(to_parsing_canonical_form(self.parsed), "CRC-64-AVRO")
        self.header = MARKER + int(digest, 16).to_bytes(8, "little")
        self.fields: list[str] = [field["name"] for field in definition["fields"]]

    def encode(self, record: AvroRecord) -> bytes:
        buffer = io.BytesIO()
        buffer.write(self.header)
        fastavro.schemaless_writer(buffer, self.parsed, record)
        return buffer.getvalue()

    def decode(self, value: bytes) -> AvroRecord:
        """Decode a value of exactly this schema; `decode_any` decodes a value of any schema."""
        buffer = io.BytesIO(value)
        buffer.seek(HEADER_BYTES)
        record: AvroRecord = fastavro.schemaless_reader(buffer, self.parsed, None)
        return record

    def prefix(self, last_field: str) -> "Schema":
        """Return the schema of the leading fields, up to and including `last_field`."""
        return Schema(self._part(self.fields.index(last_field) + 1))

    def _part(self, end: int) -> dict[str, Any]:
        return {**self.definition, "fields": self.definition["fields"][:end]}


ACCEPTED, RESOLVED = "Accepted", "Resolved"
UNKNOWN_KEPT = 1_000

Ask = Callable[[], Iterable[Schema]]


class Catalogue:
    """Every schema that a record may name: those of this version, of earlier and of other versions.

    During an upgrade, and after a rollback, there are records with schemas that this version was not
    shipped with. Every writer announces its schemas before it writes, so an unknown header is looked up
    once in the announcements; if it is unknown there too, it belongs to no version (docs/schemas.md).

    Each generation of `Accepted` has a generation of `Resolved`: its fields, followed by those that
    identity adds. The latter is derived from the former and need not be announced.
    """

    def __init__(self, folder: Path) -> None:
        self.by_header: dict[bytes, Schema] = {}
        self.ask: Ask | None = None  # reads the announced schemas; its exceptions propagate
        self._headers: dict[tuple[str, str], set[bytes]] = {}
        self._unknown: set[bytes] = set()
        self._lock = threading.RLock()
        present = [_read(path) for path in sorted(folder.glob("*.avsc"))]
        self.current = {schema.name: schema for schema in present}
        self.learn([*(_read(path) for path in sorted(folder.glob("past/*.avsc"))), *present])
        if ACCEPTED in self.current and RESOLVED in self.current:
            self.current[RESOLVED] = self.resolved(self.current[ACCEPTED])

    def find(self, header: bytes) -> Schema | None:
        """Return the schema of a header; None if no version has it."""
        schema = self.by_header.get(header)
        if schema is not None or self.ask is None or header in self._unknown:
            return schema
        if len(header) < HEADER_BYTES or not header.startswith(MARKER):
            return None
        with self._lock:
            self.learn(self.ask())
            if header not in self.by_header:
                if len(self._unknown) >= UNKNOWN_KEPT:
                    self._unknown.clear()
                self._unknown.add(header)
            return self.by_header.get(header)

    def learn(self, schemas: Iterable[Schema]) -> None:
        """Add these schemas and every generation of `Resolved` that can be derived from them."""
        with self._lock:
            for schema in schemas:
                self._add(schema)
            own = {json.dumps(self._own(schema)): schema for schema in self._named(RESOLVED)}
            for accepted in self._named(ACCEPTED):
                for resolved in own.values():
                    self._add(self._joined(accepted, resolved))

    def resolved(self, accepted: Schema) -> Schema:
        """Return the generation of `Resolved` that this version writes for a generation of `Accepted`."""
        schema = self._joined(accepted, self.current[RESOLVED])
        return self.by_header.get(schema.header, schema)

    def headers(self, name: str, last_field: str) -> Set[bytes]:
        """See `headers_of`."""
        with self._lock:
            found = self._headers.get((name, last_field))
            if found is None:
                alike = (s.header for s in self._named(name) if self._is_alike(s, last_field))
                found = self._headers[name, last_field] = set(alike)
            return found

    def _add(self, schema: Schema) -> None:
        if schema.header in self.by_header:
            return
        self.by_header[schema.header] = schema
        for (name, last_field), headers in self._headers.items():
            if name == schema.name and self._is_alike(schema, last_field):
                headers.add(schema.header)

    def _is_alike(self, schema: Schema, last_field: str) -> bool:
        if not last_field:
            return True
        current = self.current[schema.name]
        return last_field in schema.fields and (
            schema.prefix(last_field).header == current.prefix(last_field).header
        )

    def _named(self, name: str) -> list[Schema]:
        return [schema for schema in self.by_header.values() if schema.name == name]

    def _own(self, resolved: Schema) -> list[Any]:
        """Return the fields of a generation of `Resolved` that are not fields of an accepted event."""
        fields: list[Any] = resolved.definition["fields"]
        prefixes = [len(s.fields) for s in self._named(ACCEPTED)
                    if s.fields == resolved.fields[: len(s.fields)]]  # fmt: skip
        return fields[max(prefixes, default=0) :]

    def _joined(self, accepted: Schema, resolved: Schema) -> Schema:
        fields = [*accepted.definition["fields"], *self._own(resolved)]
        return Schema({**resolved.definition, "fields": fields})


def _read(path: Path) -> Schema:
    return Schema(json.loads(path.read_text()))
