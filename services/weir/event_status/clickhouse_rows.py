"""Read one event's rows from ClickHouse: one query per table, every value a query parameter."""

import threading
import uuid
from typing import Any

from weir.adapters import avro
from weir.adapters.clickhouse.query import ClickHouse
from weir.core.identifiers import content_digest
from weir.event_status.model import EventRow, EventRows
from weir.settings.shared import ClickHouseSettings

SECONDS = 5  # limit for one query
ROWS = 10  # at most, per table
LEADING_BYTES = 4_096  # of a dead record: enough for the fields up to its idempotency key
SPREAD_MS = 600_000  # most time between the minting of an event id and its `received_at`
NO_ID = "00000000-0000-0000-0000-000000000000"

SourceScope = tuple[str, ...] | None  # sources; None: all

TEXTS = {
    "events": "source, event, profile_id, session_id, user_id, anonymous_id, idempotency_key, door",
    "duplicates": "source, idempotency_key, same_payload,"
    " toString(t.first_event_id) AS first_event_id",
    "rejected": "source, door, code, field, detail, client_id",
    "dead": "source, step, reason, detail, origin_topic, origin_partition, origin_offset,"
    f" hex(substring(value, 1, {LEADING_BYTES})) AS leading",
}
TIMES = {
    "events": ("occurred_at", "received_at", "inserted_at"),
    "duplicates": ("first_received_at", "received_at", "inserted_at"),
    "rejected": ("received_at", "inserted_at"),
    "dead": ("received_at", "died_at", "inserted_at"),
}
# An id is minted when its event arrives, so the time in the id limits which parts of a table can have it.
_NEAR = (
    " AND t.received_at BETWEEN fromUnixTimestamp64Milli({since:Int64}, 'UTC')"
    " AND fromUnixTimestamp64Milli({until:Int64}, 'UTC')"
)
_OF_EVENT = "t.event_id = {event_id:UUID}"
# a record that could not be read still has its event id after the header
_DEAD_EVENT = f"({_OF_EVENT} OR position(value, unhex({{hex:String}})) = {avro.HEADER_BYTES + 1})"
_OF_KEY = "idempotency_key = {key:String}"
_DEAD_KEY = "(endsWith(key, unhex({hex:String})) OR position(value, {key:String}) > 0)"


class EventRowQueries:
    """Queries for one event's rows. Thread-safe. `ClickHouseUnreachableError`, `ClickHouseRefusedError`."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._connected: ClickHouse | None = None
        self._keys = [avro.PrefixReader(n, "idempotency_key") for n in ("Accepted", "Resolved")]

    def of_event(self, event_id: uuid.UUID, minted: int, scope: SourceScope) -> EventRows:
        """Return the rows of an event id that was minted at `minted` (epoch milliseconds)."""
        values = {
            "event_id": str(event_id),
            "hex": event_id.hex,
            "since": minted - SPREAD_MS,
            "until": minted + SPREAD_MS,
        }
        near = _OF_EVENT + _NEAR
        dead = self._ask("dead", _DEAD_EVENT, values, scope)
        return EventRows(
            self._ask("events", near, values, scope),
            self._ask("duplicates", near, values, scope),
            self._ask("rejected", near, values, scope),
            [{**row, "event_id": str(event_id)} for row in dead],
        )

    def of_key(self, key: str, scope: SourceScope) -> EventRows:
        """Return the rows of the events that a client sent with this id of its own."""
        values = {"key": key, "hex": "00" + content_digest(key.encode()).hex()}
        return EventRows(
            self._ask("events", _OF_KEY, values, scope),
            self._ask("duplicates", _OF_KEY, values, scope),
            self._ask("rejected", "client_id = {key:String}", values, scope),
            [self._named(row) for row in self._ask("dead", _DEAD_KEY, values, scope)
             if self._key_of(row) in (key, None)],
        )  # fmt: skip

    def _key_of(self, row: EventRow) -> str | None:
        """Return the idempotency key in a dead record.

        None: it cannot be read, and the query matched the Kafka key or the bytes. Empty: not an event.
        """
        value = bytes.fromhex(row["leading"])
        for reader in self._keys:
            if reader.reads(value):
                try:
                    return str(reader.read(value)["idempotency_key"])
                except avro.UnreadableError:
                    return None
        return ""

    def _named(self, row: EventRow) -> EventRow:
        """Return the dead letter's row with its event id, which can be read even if the rest of the record cannot."""
        found = bytes.fromhex(row["leading"])[avro.HEADER_BYTES : avro.HEADER_BYTES + 16]
        return {**row, "event_id": str(uuid.UUID(bytes=found)) if len(found) == 16 else ""}

    def _ask(
        self, table: str, condition: str, values: dict[str, Any], scope: SourceScope
    ) -> list[EventRow]:
        times = ", ".join(f"toUnixTimestamp64Milli(t.{name}) AS {name}" for name in TIMES[table])
        within = "" if scope is None else " AND source IN {sources:Array(String)}"
        latest = "died_at" if table == "dead" else "received_at"
        sql = (
            f"SELECT toString(t.event_id) AS event_id, {TEXTS[table]}, {times}"
            f" FROM {{database:Identifier}}.{table} AS t WHERE {condition}{within}"
            f" ORDER BY t.{latest} DESC LIMIT {ROWS} SETTINGS max_execution_time = {SECONDS}"
        )
        parameters = values | {"database": self._settings.clickhouse_database}
        if scope is not None:
            parameters["sources"] = list(scope)
        rows = self._clickhouse().records(sql, parameters)
        return [_readable(row, TIMES[table]) for row in rows]

    def _clickhouse(self) -> ClickHouse:
        with self._lock:
            if self._connected is None:
                self._connected = ClickHouse(self._settings, timeout_seconds=SECONDS + 1)
            return self._connected


def _readable(row: dict[str, Any], times: tuple[str, ...]) -> EventRow:
    if row["event_id"] == NO_ID:
        row["event_id"] = ""
    return row | {name: int(row[name]) for name in times}
