"""Put lost rows back into ClickHouse from the topics, without repeating rows that it has."""

import hashlib
import time
import uuid
from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import Protocol

from weir.adapters import avro
from weir.backfill.present import EventKey
from weir.backfill.settled_reader import Chunk, OffsetRange
from weir.core import reasons
from weir.redelivery.replay import Pace
from weir.runtime.sink_ports import (
    Columns,
    Insert,
    PartitionId,
    RowsRefusedError,
    WarehouseAwayError,
)
from weir.sink.ranges import VERSION, InsertAttempt, Intent
from weir.sink.step import PoisonReason, Routes

TRIES = 6
PAUSE_SECONDS = 2.0


class NotStoredError(Exception):
    """ClickHouse accepted the rows but does not have them."""


class RowInserter(Protocol):
    """See `weir.runtime.sink_ports.Warehouse`."""

    def insert(self, insert: Insert) -> None: ...


class StoredEvents(Protocol):
    """Questions to ClickHouse."""

    def present(self, events: Collection[EventKey]) -> set[uuid.UUID]:
        """Return the ids of the events that have a row."""

    def barred(self, place: PartitionId, chunk: Chunk) -> set[int]:
        """Return the offsets of records that must not be put back, even if their row is missing."""

    def standing(self, place: PartitionId, chunk: Chunk) -> set[int]:
        """Return the offsets of records that must not be inserted again: their row exists, and a copy would count."""


@dataclass(frozen=True)
class EventRange:
    """The events to rebuild: received from `start` on and before `end` (epoch milliseconds), of one source or all."""

    start: int
    end: int | None = None
    source: str = ""

    def has(self, received_at: int, source: str) -> bool:
        is_late = self.end is not None and received_at >= self.end
        return received_at >= self.start and not is_late and self.source in ("", source)


@dataclass
class RebuildCounts:
    """The results of a rebuild."""

    read: int = 0
    there: int = 0  # their row was not missing
    put_back: int = 0
    barred: int = 0
    refused: int = 0  # by ClickHouse, or by identity
    unsaved: int = 0  # their senders asked not to store them


class Rebuilder:
    """One rebuild. `dry_run`: nothing is written."""

    def __init__(
        self, warehouse: StoredEvents, rows: RowInserter, routes: Routes, pace: Pace, dry_run: bool
    ) -> None:
        self._warehouse = warehouse
        self._rows = rows
        self._routes = routes
        self._pace = pace
        self._dry_run = dry_run
        self._events = avro.PrefixReader("Resolved", "source")
        self._run = uuid.uuid4().hex
        self._promised: set[uuid.UUID] = set()  # events that a dry run would have put back

    def present(self, events: Collection[EventKey]) -> set[uuid.UUID]:
        """Return the ids of the events that have a row, or in a dry run would have one by now."""
        promised = {event.event_id for event in events} & self._promised
        return self._warehouse.present(events) | promised

    def put_records(self, span: OffsetRange, chunk: Chunk, account: RebuildCounts) -> None:
        """Put a chunk's records back. A copy of an existing row replaces that row.

        Tables of which the books count every row are the exception: an existing row is not inserted again.
        """
        account.read += len(chunk.records.offsets)
        there = self._warehouse.standing(span.place, chunk)
        account.there += len(there)
        missing = self._allowed(span, chunk, set(chunk.records.offsets) - there)
        account.barred += len(chunk.records.offsets) - len(there) - len(missing)
        rows = _only(chunk.records, missing)
        refused = set() if self._dry_run else self._put(span, chunk, rows, self._run)
        account.refused += len(refused)
        account.put_back += len(missing) - len(refused)

    def put_events(
        self, span: OffsetRange, chunk: Chunk, part: EventRange, account: RebuildCounts
    ) -> None:
        """Put back the chunk's events that have no row. `NotStoredError` if some still have none afterwards."""
        account.read += len(chunk.records.offsets)
        meant = self._meant(chunk.records, part)
        missing = self._missing(meant)
        account.there += len(meant) - len(missing)
        allowed = self._allowed(span, chunk, missing.keys())
        account.barred += len(missing) - len(allowed)
        missing = {at: known for at, known in missing.items() if at in allowed}
        account.put_back += len(missing)
        if self._dry_run:
            self._promised |= {known.event_id for known in missing.values()}
            return
        # The first token is the same for the same rows in every run, so an insert that an earlier run left
        # unfinished goes in once. If it was used before for rows that have been lost again, ClickHouse drops
        # the insert; the second token is new.
        digest = hashlib.blake2b(b"".join(k.event_id.bytes for k in missing.values()))
        for token in (digest.hexdigest()[:32], self._run):
            if not missing:
                return
            refused = self._put(span, chunk, _only(chunk.records, missing), token)
            account.refused += len(refused)
            account.put_back -= len(refused)
            missing = self._missing({at: missing[at] for at in missing.keys() - refused})
            # an event that was erased meanwhile is missing, too
            allowed = self._allowed(span, chunk, missing.keys())
            account.put_back -= len(missing) - len(allowed)
            missing = {at: known for at, known in missing.items() if at in allowed}
        if missing:
            raise NotStoredError(
                f"ClickHouse accepted {len(missing):,} rows of {span.place.topic}/{span.place.partition}"
                f" from offset {chunk.start} on, but does not have them."
            )

    def _missing(self, events: dict[int, EventKey]) -> dict[int, EventKey]:
        present = self.present(events.values())
        return {at: known for at, known in events.items() if known.event_id not in present}

    def _allowed(self, span: OffsetRange, chunk: Chunk, missing: Collection[int]) -> set[int]:
        """Return the missing offsets that may be put back.

        Call it only after the rows were found missing; `ErasedPeople` says why.
        """
        return set(missing) - self._warehouse.barred(span.place, chunk) if missing else set()

    def _meant(self, records: Columns, part: EventRange) -> dict[int, EventKey]:
        """Return the events in the range by offset, each event once. An unreadable record never had a row."""
        meant: dict[int, EventKey] = {}
        seen = set()
        for offset, value in zip(records.offsets, records.values, strict=True):
            if value is None or not self._events.reads(value):
                continue
            event = self._events.read(value)
            is_new = event["event_id"] not in seen
            if is_new and part.has(event["received_at"], event["source"]):
                seen.add(event["event_id"])
                event_id = uuid.UUID(bytes=event["event_id"])
                meant[offset] = EventKey(event_id, event["received_at"])
        return meant

    def _put(self, span: OffsetRange, chunk: Chunk, records: Columns, token: str) -> set[int]:
        """Insert records as the sink does, but with other tokens. Return the offsets that ClickHouse refuses."""
        refused: set[int] = set()
        if not records.offsets:
            return refused
        self._pace.keep(len(records.offsets))
        topic_id = f"{span.topic_id}:replay:{token}"
        intent = Intent(VERSION, chunk.end)
        rows = InsertAttempt(span.place, topic_id, chunk.start, records, self._routes, intent)
        while not rows.done:
            insert = rows.insert()
            if insert is None:
                refused |= {record.offset for record in rows.dead_records()}
                rows.settled()
                continue
            try:
                self._insert(insert)
            except RowsRefusedError as fault:
                rows.refused(PoisonReason(reasons.REFUSED_BY_CLICKHOUSE, str(fault)))
            else:
                rows.settled()
        return refused

    def _insert(self, insert: Insert) -> None:
        """Insert; retry with the same token while ClickHouse is unavailable. `WarehouseAwayError` after TRIES."""
        for left in reversed(range(TRIES)):
            try:
                self._rows.insert(insert)
                return
            except WarehouseAwayError:
                if not left:
                    raise
                time.sleep(PAUSE_SECONDS)


def _only(records: Columns, offsets: Container[int]) -> Columns:
    kept = [index for index, at in enumerate(records.offsets) if at in offsets]
    return Columns(
        [records.offsets[index] for index in kept],
        [records.values[index] for index in kept],
        [records.keys[index] for index in kept],
        [records.timestamps[index] for index in kept],
    )
