"""Repeat dedup's and identity's decisions about accepted events in scratch stores, without side effects."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from weir.adapters import avro
from weir.core import topics
from weir.core.batch import Batch, Step
from weir.dedup.reader import RoutingFieldsReader
from weir.dedup.step import UNIQUE, RoutingFields, decide
from weir.runtime.ports import Store, StorePositions
from weir.runtime.sink_ports import Columns

NOWHERE = StorePositions(0, 0)  # a scratch store is never reopened, so its positions do not matter
# The event id in a record of an accepted or a resolved event.
ID = slice(avro.HEADER_BYTES, avro.HEADER_BYTES + 16)


class DedupReplay:
    """Dedup's decisions on one partition of `events.accepted`. Records must be passed in order."""

    def __init__(self, seen: Store) -> None:
        self._reader = RoutingFieldsReader()
        self._seen = seen

    def read(self, records: Columns) -> dict[int, RoutingFields]:
        """Return the routing fields by offset. Records that cannot be read are left out: they died in dedup."""
        there = [at for at, value in enumerate(records.values) if value is not None]
        values = [value for value in records.values if value is not None]
        arrivals, faults = self._reader.read([records.keys[at] for at in there], values)
        offsets = [records.offsets[at] for n, at in enumerate(there) if n not in faults]
        return dict(zip(offsets, arrivals, strict=True))

    def of(self, arrivals: Mapping[int, RoutingFields]) -> dict[int, RoutingFields]:
        """Return the events that are the first of their key, or the first after its window."""
        outcomes, changes = decide(list(arrivals.values()), self._seen.load)
        self._seen.apply(changes, NOWHERE)
        decided = zip(arrivals.items(), outcomes, strict=True)
        return {at: arrival for (at, arrival), outcome in decided if outcome is UNIQUE}


class ResolvedEvents(NamedTuple):
    """Identity's results: records of `events.resolved` by event id, and the number of events by outcome."""

    resolved: dict[bytes, bytes]
    outcomes: Counter[str]  # events by outcome; without a row: unsaved, erased, dead


class IdentityReplay:
    """Identity's decisions on a copy of the people as they are now.

    No person changes: links that events show to other identifiers are dropped. Changes of visits and counts
    stay in the copy, where only later events of the same replay see them.
    """

    def __init__(self, step: Step, people: Callable[[], Store]) -> None:
        """`people`: returns the copy; it is only made when first needed."""
        self._step = step
        self._people = people
        self._events = avro.headers_of("Accepted")

    def resolve(self, batch: Batch) -> ResolvedEvents:
        """Resolve a batch. `batch`: records as dedup would write them to `events.unique`."""
        people = self._people()
        found = ResolvedEvents({}, Counter())
        while len(batch):
            decided = self._step.process(batch, people.load)
            decided.check(len(batch), self._step.writes)
            people.apply(decided.state_changes(), NOWHERE)
            for _, value in decided.outputs[topics.RESOLVED]:
                found.resolved[value[ID]] = value
            for (_, _, outcome), count in decided.usage.counts.items():
                found.outcomes[outcome] += count.events
            # keep events that another identifier has to resolve; the other records are links
            again = [o for o in decided.outputs[topics.UNIQUE] if o.value[:10] in self._events]
            batch = Batch(
                topics.UNIQUE,
                batch.partition,
                list(range(len(again))),
                [batch.timestamps[-1]] * len(again),
                [output.key for output in again],
                [output.value for output in again],
            )
        return found
