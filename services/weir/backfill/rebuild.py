"""Puts back into ClickHouse what it has lost, from the topics, and nothing that it has."""

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
from weir.runtime.sink_ports import Columns, Insert, Place, RowsRefusedError, WarehouseAwayError
from weir.sink.ranges import VERSION, InsertAttempt, Intent
from weir.sink.step import PoisonReason, Routes

TRIES = 6
PAUSE_SECONDS = 2.0


class NotStoredError(Exception):
    """ClickHouse took the rows, and does not have them."""


class RowInserter(Protocol):
    """See `weir.runtime.sink_ports.StoredEvents`."""

    def insert(self, insert: Insert) -> None: ...


class StoredEvents(Protocol):
    """Questions to ClickHouse."""

    def present(self, events: Collection[EventKey]) -> set[uuid.UUID]:
        """Which of these have a row."""

    def barred(self, place: Place, chunk: Chunk) -> set[int]:
        """The offsets of records that may not come back, whatever is missing."""

    def standing(self, place: Place, chunk: Chunk) -> set[int]:
        """The offsets of records that may not go in again: their row is there, and counts."""


@dataclass(frozen=True)
class EventRange:
    """Which events are meant: received from `start` on and before `end` (epoch milliseconds)."""

    start: int
    end: int | None = None
    source: str = ""

    def has(self, received_at: int, source: str) -> bool:
        is_late = self.end is not None and received_at >= self.end
        return received_at >= self.start and not is_late and self.source in ("", source)


@dataclass
class RebuildCounts:
    """What a rebuild came to."""

    read: int = 0
    there: int = 0  # that were not missing
    put_back: int = 0
    barred: int = 0
    refused: int = 0  # by ClickHouse, or by identity
    unsaved: int = 0  # by their senders' wish


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
        self._promised: set[uuid.UUID] = set()  # of a dry run

    def present(self, events: Collection[EventKey]) -> set[uuid.UUID]:
        """Which of these have a row, or in a dry run would have one by now."""
        promised = {event.event_id for event in events} & self._promised
        return self._warehouse.present(events) | promised

    def put_records(self, span: OffsetRange, chunk: Chunk, account: RebuildCounts) -> None:
        """The records of a chunk: a row replaces itself, or is there and counts, and then stays alone."""
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
        """The events of a chunk that have no row. `NotStoredError`: they still have none."""
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
        # The same rows have the same token at every run, so what an earlier one left under way goes
        # in once. Where that token was used for rows that are gone again, the second one is new.
        digest = hashlib.blake2b(b"".join(k.event_id.bytes for k in missing.values()))
        for token in (digest.hexdigest()[:32], self._run):
            if not missing:
                return
            refused = self._put(span, chunk, _only(chunk.records, missing), token)
            account.refused += len(refused)
            account.put_back -= len(refused)
            missing = self._missing({at: missing[at] for at in missing.keys() - refused})
            # one that is erased meanwhile is missing as well
            allowed = self._allowed(span, chunk, missing.keys())
            account.put_back -= len(missing) - len(allowed)
            missing = {at: known for at, known in missing.items() if at in allowed}
        if missing:
            raise NotStoredError(
                f"ClickHouse took {len(missing):,} rows of {span.place.topic}/{span.place.partition}"
                f" from offset {chunk.start} on, and does not have them."
            )

    def _missing(self, events: dict[int, EventKey]) -> dict[int, EventKey]:
        present = self.present(events.values())
        return {at: known for at, known in events.items() if known.event_id not in present}

    def _allowed(self, span: OffsetRange, chunk: Chunk, missing: Collection[int]) -> set[int]:
        """Of what is known to be missing. In this order: see `Warehouse.barred`."""
        return set(missing) - self._warehouse.barred(span.place, chunk) if missing else set()

    def _meant(self, records: Columns, part: EventRange) -> dict[int, EventKey]:
        """By offset, an event once. What cannot be read had no row."""
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
        """As the sink puts a range in, but under tokens of its own; the offsets that ClickHouse refuses."""
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
                refused |= {record.offset for record in rows.condemned()}
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
        """Again with the same token while ClickHouse is away; `WarehouseAwayError` if it stays so."""
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
