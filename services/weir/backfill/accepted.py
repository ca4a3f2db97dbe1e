"""Which accepted events ClickHouse lacks though nothing says why, and what they would be in `events.resolved`.

Dedup's decisions are made once more over all that `events.accepted` has, since a repeat has no row
either; identity's over those alone that turn out to be missing. Live traffic and the workers' state
are not touched.
"""

import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from weir.adapters import avro
from weir.backfill.present import EventKey
from weir.backfill.rebuild import EventRange, RebuildCounts
from weir.backfill.redecide import DedupReplay, IdentityReplay
from weir.backfill.settled_reader import Chunk
from weir.core import topics
from weir.core.batch import Batch
from weir.dedup.step import RoutingFields
from weir.runtime.sink_ports import Columns, Place


class KnownOutcomes(Protocol):
    """What ClickHouse says became of accepted events."""

    def repeats(self, events: Collection[EventKey]) -> set[uuid.UUID]:
        """Which of these dedup has dropped."""

    def dead(self, place: Place, events: Mapping[int, EventKey]) -> set[int]:
        """Which of these, by offset, died somewhere and were not sent in again."""


class AcceptedEvents:
    """Of one partition; its chunks must come in order."""

    def __init__(
        self,
        place: Place,
        fates: KnownOutcomes,
        present: Callable[[Collection[EventKey]], set[uuid.UUID]],
        first_occurrences: DedupReplay,
        resolving: IdentityReplay,
    ) -> None:
        """`present`: which of these have a row."""
        self._place = place
        self._fates = fates
        self._present = present
        self._first_occurrences = first_occurrences
        self._resolving = resolving
        self._saved = avro.PrefixReader("Accepted", "saved")

    def missing(self, chunk: Chunk, part: EventRange, account: RebuildCounts) -> Chunk:
        """The chunk's events that are to be put back, resolved, in their places."""
        arrivals = self._first_occurrences.read(chunk.records)
        known = {
            at: EventKey(uuid.UUID(bytes=a.event_id), a.received_at) for at, a in arrivals.items()
        }
        # a repeat of an event that the topic has no more would be taken for the first, and what comes
        # after that one's window for a repeat
        repeats = self._fates.repeats(known.values())
        firsts = self._first_occurrences.of(
            {at: a for at, a in arrivals.items() if known[at].event_id not in repeats}
        )
        meant = {at for at, a in firsts.items() if part.has(a.received_at, a.source)}
        there = self._present([known[at] for at in meant])
        lost = {at: known[at] for at in meant if known[at].event_id not in there}
        account.there += len(meant) - len(lost)
        dead = self._fates.dead(self._place, lost)
        account.barred += len(dead)
        return self._resolved(chunk, {at: firsts[at] for at in sorted(lost.keys() - dead)}, account)

    def _resolved(
        self, chunk: Chunk, lost: Mapping[int, RoutingFields], account: RebuildCounts
    ) -> Chunk:
        records = {
            at: (value, timestamp)
            for at, value, _, timestamp in zip(*chunk.records, strict=True)
            if at in lost and value is not None and self._is_saved(value)
        }
        account.unsaved += len(lost) - len(records)
        if not records:
            return Chunk(chunk.start, chunk.end, Columns([], [], [], []))
        batch = Batch(
            topics.UNIQUE,
            0,
            list(records),
            [timestamp for _, timestamp in records.values()],
            [lost[at].next_key or lost[at].event_id for at in records],
            [value for value, _ in records.values()],
        )
        resolution = self._resolving.resolve(batch)
        account.barred += resolution.outcomes["erased"]
        account.refused += resolution.outcomes["dead"]
        found = {at: resolution.resolved.get(lost[at].event_id) for at in records}
        offsets = [at for at, value in found.items() if value is not None]
        columns = Columns(
            offsets,
            [found[at] for at in offsets],
            [b""] * len(offsets),
            [records[at][1] for at in offsets],
        )
        return Chunk(chunk.start, chunk.end, columns)

    def _is_saved(self, value: bytes) -> bool:
        """False: its sender asked for it not to be stored. One that is damaged identity refuses."""
        try:
            return bool(self._saved.read(value)["saved"])
        except avro.UnreadableError:
            return True
