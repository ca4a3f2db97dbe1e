"""Read the source of an event, its receipt time and its id, for dead letters and the books."""

from typing import NamedTuple

from weir.adapters import avro


class EventOrigin(NamedTuple):
    source: str
    received_at: int
    event_id: bytes | None  # None: unknown


class OriginReader:
    """Reads the same fields as dedup, so that identity accounts for an event as dedup did."""

    def __init__(self) -> None:
        self._reader = avro.PrefixReader("Accepted", "idempotency_key")

    def read(self, value: bytes) -> EventOrigin | None:
        """Return the origin, or None if it cannot be read."""
        try:
            record = self._reader.read(value)
        except (avro.UnknownSchemaError, avro.UnreadableError):
            return None
        return EventOrigin(record["source"], record["received_at"], record["event_id"])
