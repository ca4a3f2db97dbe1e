"""What dedup and identity decide about accepted events, decided once more apart from them. Nothing of it leaves."""

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

NOWHERE = StorePositions(0, 0)  # a scratch store is never taken up again
ID = slice(avro.HEADER_BYTES, avro.HEADER_BYTES + 16)  # of an accepted or a resolved event's record


class DedupReplay:
    """Dedup's decisions on one partition of `events.accepted`, which must come in order."""

    def __init__(self, seen: Store) -> None:
        self._reader = RoutingFieldsReader()
        self._seen = seen

    def read(self, records: Columns) -> dict[int, RoutingFields]:
        """By offset; what cannot be read died in dedup."""
        there = [at for at, value in enumerate(records.values) if value is not None]
        values = [value for value in records.values if value is not None]
        arrivals, faults = self._reader.read([records.keys[at] for at in there], values)
        offsets = [records.offsets[at] for n, at in enumerate(there) if n not in faults]
        return dict(zip(offsets, arrivals, strict=True))

    def of(self, arrivals: Mapping[int, RoutingFields]) -> dict[int, RoutingFields]:
        """Those that are the first of their key, or the first after its window."""
        outcomes, changes = decide(list(arrivals.values()), self._seen.load)
        self._seen.apply(changes, NOWHERE)
        told = zip(arrivals.items(), outcomes, strict=True)
        return {at: arrival for (at, arrival), outcome in told if outcome is UNIQUE}


class ResolvedEvents(NamedTuple):
    """What identity makes of events: records of `events.resolved` by event id, and how many came to nothing."""

    resolved: dict[bytes, bytes]
    outcomes: Counter[str]  # of those that come to no row: unsaved, erased, dead


class IdentityReplay:
    """Identity's decisions over a copy of the people as they are now.

    Who a person is stays as it is: what events show about other identifiers goes nowhere, and of the
    visits and counts that events change here only later events here know.
    """

    def __init__(self, step: Step, people: Callable[[], Store]) -> None:
        """`people`: the copy, made when it is first asked for."""
        self._step = step
        self._people = people
        self._events = avro.headers_of("Accepted")

    def resolve(self, batch: Batch) -> ResolvedEvents:
        """`batch`: as dedup would write it to `events.unique`."""
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
            # an event that another identifier decides about; the others are links
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
