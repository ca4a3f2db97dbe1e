"""Schemas that versions of Weir announce to each other in the topic `schemas` before they write with them.

So a header that a reader finds neither in its own `schemas/` nor in the topic belongs to no version: the
record is damaged. Every version can read the records of any other version, even after a rollback.
"""

import json
import threading
from collections.abc import Iterable

from confluent_kafka import KafkaException

from weir.adapters import avro
from weir.adapters.errors import UnavailableError
from weir.adapters.kafka.clients import TableReader, write_entries
from weir.core import topics
from weir.runtime import logs
from weir.runtime.ports import StreamBrokenError
from weir.settings.shared import KafkaSettings

READ_ONCE_MS = 20
SECONDS = 10.0


class SchemasNotReadError(StreamBrokenError, UnavailableError):
    """The announced schemas cannot be read from Kafka, or new ones written, now: try again."""


class SchemasTopic:
    """Announces this version's schemas and learns those of other versions. Thread-safe."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._joined = False
        self._lock = threading.Lock()
        self._log = logs.get("schemas")

    def announce(self) -> None:
        """Announce this version's schemas; on return, other versions can read its records. `SchemasNotReadError`."""
        there = self.read()
        avro.catalogue.learn(there)
        known = {schema.header for schema in there}
        self._write(s for s in avro.schemas().values() if s.header not in known)

    def join(self) -> None:
        """Announce once, and look up schemas that others announce later when needed. `SchemasNotReadError`."""
        with self._lock:
            if not self._joined:
                self.announce()
                avro.catalogue.ask = self.read
                self._joined = True

    def know(self, values: Iterable[bytes | None]) -> None:
        """Look up the schemas of these values, so that all announced ones are known. `SchemasNotReadError`."""
        self.join()
        for header in {value[: avro.HEADER_BYTES] for value in values if value}:
            avro.name_of(header)

    def read(self) -> list[avro.Schema]:
        """Return every schema in the topic. `SchemasNotReadError`."""
        found: list[avro.Schema] = []

        def apply(key: bytes, value: bytes | None) -> None:
            if value is None:
                return
            try:
                found.append(avro.Schema(json.loads(value)))
            except Exception as fault:  # noqa: BLE001  # fastavro raises many types; any of them: not a schema
                fields = {"key": key.decode("utf-8", "replace"), "fault": str(fault)}
                self._log.error("an entry of the topic `schemas` is not a schema", **fields)

        reader = TableReader(self._settings, topics.SCHEMAS, READ_ONCE_MS)
        try:
            reader.read_all(apply, SECONDS)
        except KafkaException as fault:
            raise _not_read(fault) from None
        finally:
            reader.close()
        return found

    def _write(self, schemas: Iterable[avro.Schema]) -> None:
        entries = [
            (
                schema.header[len(avro.MARKER) :].hex().encode(),
                json.dumps(schema.definition).encode(),
            )
            for schema in schemas
        ]
        if not entries:
            return
        try:
            write_entries(self._settings, topics.SCHEMAS, entries, SECONDS)
        except KafkaException as fault:
            raise _not_read(fault) from None
        self._log.info("schemas announced to other versions", new=len(entries))


def _not_read(fault: KafkaException) -> SchemasNotReadError:
    return SchemasNotReadError(
        f"The topic `schemas` cannot be used ({fault.args[0].str()}): if it does not exist, run `weir topics apply`."
    )
