"""Find accepted events that ClickHouse lacks for no known reason, and resolve them as identity would.

Dedup's decisions are repeated for everything in `events.accepted`, because a duplicate has no row either.
Identity's decisions are repeated only for the events that are missing. Live traffic and the workers' state
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
from weir.runtime.sink_ports import Columns, PartitionId


class KnownOutcomes(Protocol):
    """Outcomes of accepted events that ClickHouse knows."""

    def repeats(self, events: Collection[EventKey]) -> set[uuid.UUID]:
        """Return the ids of the events that dedup has dropped as duplicates."""

    def dead(self, place: PartitionId, events: Mapping[int, EventKey]) -> set[int]:
        """Return the offsets of the events that died at any step and were not sent again."""


class AcceptedEvents:
    """The accepted events of one partition. Its chunks must be passed in order."""

    def __init__(
        self,
        place: PartitionId,
        outcomes: KnownOutcomes,
        present: Callable[[Collection[EventKey]], set[uuid.UUID]],
        first_occurrences: DedupReplay,
        resolving: IdentityReplay,
    ) -> None:
        """`present`: returns the ids of the given events that have a row."""
        self._place = place
        self._outcomes = outcomes
        self._present = present
        self._first_occurrences = first_occurrences
        self._resolving = resolving
        self._saved = avro.PrefixReader("Accepted", "saved")

    def missing(self, chunk: Chunk, part: EventRange, account: RebuildCounts) -> Chunk:
        """Return the chunk's events to put back, as resolved records at their offsets in `events.accepted`."""
        arrivals = self._first_occurrences.read(chunk.records)
        known = {
            at: EventKey(uuid.UUID(bytes=a.event_id), a.received_at) for at, a in arrivals.items()
        }
        # Leave out known duplicates. If the topic no longer has the first event of a key, its duplicate
        # would count as the first, and an event after the first one's window would count as a duplicate.
        repeats = self._outcomes.repeats(known.values())
        firsts = self._first_occurrences.of(
            {at: a for at, a in arrivals.items() if known[at].event_id not in repeats}
        )
        meant = {at for at, a in firsts.items() if part.has(a.received_at, a.source)}
        there = self._present([known[at] for at in meant])
        lost = {at: known[at] for at in meant if known[at].event_id not in there}
        account.there += len(meant) - len(lost)
        dead = self._outcomes.dead(self._place, lost)
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
        """Check whether the event may be stored; its sender may have asked not to. Identity rejects a damaged one."""
        try:
            return bool(self._saved.read(value)["saved"])
        except avro.UnreadableError:
            return True
