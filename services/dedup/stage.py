"""Dedup between bytes and decisions: reads the leading fields, forwards the bytes untouched."""

from services.core import reasons, topics
from services.core.step import Batch, Decided, Load, Output, Refusal
from services.dedup.reader import RoutingReader
from services.dedup.step import UNIQUE, Arrival, Repeat, decide
from services.edge import avro

Cell = list[int]  # [events, bytes]


class DedupStage:
    """`services.core.step.Step`: first occurrences to `events.unique`, repeats to `events.duplicate`."""

    name = "dedup"

    def __init__(self) -> None:
        self._reader = RoutingReader()
        self._duplicate = avro.schemas()["Duplicate"]

    def process(self, batch: Batch, load: Load) -> Decided:
        decided = Decided()
        arrivals, nexts, values = self._read(batch, decided)
        outcomes, decided.changes = decide(arrivals, load([arrival.key for arrival in arrivals]))
        unique: list[Output] = []
        duplicates: list[Output] = []
        cells: dict[tuple[str, int, str], Cell] = {}
        for arrival, (source, next_key), value, outcome in zip(
            arrivals, nexts, values, outcomes, strict=True
        ):
            if outcome is UNIQUE:
                unique.append(Output(next_key or arrival.event_id, value))
                told = "unique"
            elif isinstance(outcome, Repeat):
                duplicates.append(self._duplicate_of(value, arrival, outcome))
                told = "duplicate"
            else:
                continue  # read again: the books have it already
            place = (source, arrival.received_at // 1000, told)
            cell = cells.get(place)
            if cell is None:
                cells[place] = [1, len(value)]
            else:
                cell[0] += 1
                cell[1] += len(value)
        decided.outputs = {topics.UNIQUE: unique, topics.DUPLICATE: duplicates}
        decided.emitted = len(unique)
        decided.dropped = len(arrivals) - len(unique)
        _count(decided, cells)
        return decided

    def refresh(self, partition: int, load: Load) -> Decided | None:
        return None

    def forget(self) -> None:
        pass

    def _read(
        self, batch: Batch, decided: Decided
    ) -> tuple[list[Arrival], list[tuple[str, bytes]], list[bytes]]:
        arrivals: list[Arrival] = []
        nexts: list[tuple[str, bytes]] = []
        values: list[bytes] = []
        read = self._reader.read
        for index, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True)):
            try:
                event_id, payload, received_at, source, window, next_key = read(key, value)
            except (avro.UnknownSchemaError, avro.UnreadableError) as fault:
                self._refuse(decided, batch, index, str(fault))
                continue
            arrivals.append(Arrival(key, event_id, payload, received_at, window))
            nexts.append((source, next_key))
            values.append(value)
        return arrivals, nexts, values

    def _refuse(self, decided: Decided, batch: Batch, index: int, detail: str) -> None:
        # the key and the record's timestamp still say whose event it was and of which minute
        source = batch.keys[index].partition(b"\0")[0].decode("utf-8", "replace")
        received_at = max(0, batch.timestamps[index])
        decided.refusals.append(Refusal(index, reasons.UNREADABLE, detail, source, received_at))
        size = len(batch.values[index])
        decided.usage.add(source, received_at, "dead", 1, size)
        decided.usage.add_second(source, received_at // 1000, "accepted", 1, size)

    def _duplicate_of(self, value: bytes, arrival: Arrival, outcome: Repeat) -> Output:
        record = self._reader.whole(value)
        told = self._duplicate.encode(
            {
                "event_id": arrival.event_id,
                "first_event_id": outcome.first.event_id,
                "source": record["source"],
                "idempotency_key": record["idempotency_key"],
                "same_payload": outcome.same_payload(arrival),
                "received_at": arrival.received_at,
                "first_received_at": outcome.first.received_at,
            }
        )
        return Output(arrival.key, told)


def _count(decided: Decided, cells: dict[tuple[str, int, str], Cell]) -> None:
    for (source, second, outcome), (events, size) in cells.items():
        decided.usage.add(source, second * 1000, outcome, events, size)
        decided.usage.add_second(source, second, "accepted", events, size)
