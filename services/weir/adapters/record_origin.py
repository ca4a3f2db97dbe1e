"""Whose event a record holds, as far as it can be read: for dead letters and their accounts."""

from typing import NamedTuple

from weir.adapters import avro


class EventOrigin(NamedTuple):
    source: str
    received_at: int
    event_id: bytes | None  # None: unknown


class OriginReader:
    """Reads as far as dedup does, so that identity accounts for an event as dedup has."""

    def __init__(self) -> None:
        self._reader = avro.PrefixReader("Accepted", "idempotency_key")

    def read(self, value: bytes) -> EventOrigin | None:
        """None: it cannot be read."""
        try:
            record = self._reader.read(value)
        except (avro.UnknownSchemaError, avro.UnreadableError):
            return None
        return EventOrigin(record["source"], record["received_at"], record["event_id"])
