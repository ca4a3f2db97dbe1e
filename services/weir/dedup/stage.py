"""The dedup stage: decode the leading fields of each event, decide, and forward the bytes unchanged."""

from weir.adapters import avro
from weir.adapters.receipt_records import encode_receipt
from weir.adapters.record_origin import EventOrigin, OriginReader
from weir.core import reasons, topics
from weir.core.batch import (
    Batch,
    BatchResult,
    Load,
    Output,
    RefusedRecord,
    SizesAndIds,
    id_checksum,
)
from weir.core.dead_letter_content import MAX_SOURCE
from weir.core.receipts import Receipt
from weir.core.stages import DEDUP
from weir.dedup.reader import RoutingFieldsReader
from weir.dedup.step import ID_BYTES, UNIQUE, Repeat, RoutingFields, decide


class DedupStage:
    """A `weir.core.batch.Step`: writes first occurrences to `events.unique`, duplicates to `events.duplicate`."""

    name = DEDUP.name
    writes = DEDUP.outputs

    def __init__(self) -> None:
        self._reader = RoutingFieldsReader()
        self._duplicate = avro.schemas()["Duplicate"]
        self._origins = OriginReader()

    def process(self, batch: Batch, load: Load) -> BatchResult:
        decided = BatchResult()
        arrivals, values = self._read(batch, decided)
        outcomes, decided.changes = decide(arrivals, load)
        new = tuple.__new__  # creates a named tuple in half the time of its own __new__
        unique: list[Output] = []
        duplicates: list[Output] = []
        receipts: list[Output] = []
        cells: dict[tuple[str, int, str], SizesAndIds] = {}
        for arrival, value, outcome in zip(arrivals, values, outcomes, strict=True):
            _, ids, received_at, source, _, next_key = arrival
            if outcome is UNIQUE:
                unique.append(new(Output, (next_key or ids[:ID_BYTES], value)))
                outcome_name = "unique"
            elif isinstance(outcome, Repeat):
                duplicates.append(self._duplicate_of(value, arrival, outcome, receipts))
                outcome_name = "duplicate"
            else:
                # already in the books, but its offset still needs an outcome
                outcome_name = "reread"
            place = (source, received_at // 1000, outcome_name)
            cell = cells.get(place)
            if cell is None:
                cells[place] = ([len(value)], [ids])
            else:
                cell[0].append(len(value))
                cell[1].append(ids)
        decided.outputs = {topics.UNIQUE: unique, topics.DUPLICATE: duplicates}
        if receipts:
            decided.outputs[topics.RECEIPTS] = receipts
        decided.emitted = len(unique)
        decided.dropped = len(arrivals) - len(unique)
        _count(decided, cells)
        return decided

    def refuse(self, batch: Batch, reason: str, detail: str) -> BatchResult:
        decided = BatchResult()
        for index in range(len(batch)):
            self._refuse(decided, batch, index, reason, detail)
        return decided

    def refresh(self, partition: int, load: Load) -> BatchResult | None:
        return None

    def forget(self) -> None:
        pass

    def _read(self, batch: Batch, decided: BatchResult) -> tuple[list[RoutingFields], list[bytes]]:
        """Return (fields, values) of the readable records; refuse the others. Values are copied only in that case."""
        arrivals, faults = self._reader.read(batch.keys, batch.values)
        if not faults:
            return arrivals, batch.values
        for index, fault in faults.items():
            self._refuse(decided, batch, index, reasons.UNREADABLE, str(fault))
        return arrivals, [value for at, value in enumerate(batch.values) if at not in faults]

    def _refuse(
        self, decided: BatchResult, batch: Batch, index: int, reason: str, detail: str
    ) -> None:
        value = batch.values[index]
        origin = self._origins.read(value)
        if origin is None:
            # the record's key still gives the source, and its timestamp the minute
            source = batch.keys[index].partition(b"\0")[0].decode("utf-8", "replace")
            origin = EventOrigin(source[:MAX_SOURCE], batch.timestamps[index], None)
        source, received_at, event_id = origin
        received_at = max(0, received_at)
        decided.refusals.append(RefusedRecord(index, reason, detail, source, received_at, event_id))
        known = id_checksum([event_id]) if event_id else 0
        decided.usage.add(source, received_at, "dead", 1, len(value), known)
        decided.usage.add_second(source, received_at // 1000, "accepted", 1, len(value))

    def _duplicate_of(
        self, value: bytes, arrival: RoutingFields, outcome: Repeat, receipts: list[Output]
    ) -> Output:
        source, idempotency_key, wants_receipt = self._reader.repeated(value)
        if wants_receipt:
            receipts.append(_receipt_of(arrival, outcome))
        encoded = self._duplicate.encode(
            {
                "event_id": arrival.event_id,
                "first_event_id": outcome.first.event_id,
                "source": source,
                "idempotency_key": idempotency_key,
                "same_payload": outcome.same_payload(arrival),
                "received_at": arrival.received_at,
                "first_received_at": outcome.first.received_at,
            }
        )
        return Output(arrival.key, encoded)


def _receipt_of(arrival: RoutingFields, outcome: Repeat) -> Output:
    receipt = Receipt(
        event_id=arrival.event_id,
        step="dedup",
        outcome="duplicate",
        received_at=arrival.received_at,
        first_event_id=outcome.first.event_id,
        same_payload=outcome.same_payload(arrival),
    )
    return encode_receipt(receipt)


def _count(decided: BatchResult, cells: dict[tuple[str, int, str], SizesAndIds]) -> None:
    for (source, second, outcome), (sizes, ids) in cells.items():
        events, size = len(sizes), sum(sizes)
        decided.usage.add(source, second * 1000, outcome, events, size, id_checksum(ids))
        if outcome != "reread":
            decided.usage.add_second(source, second, "accepted", events, size)
