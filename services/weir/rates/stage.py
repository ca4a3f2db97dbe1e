"""The rates stage: read usage deltas, and write each source's totals and quota states.

The topic `quotas` is both the changelog of this worker's state and the topic that the gateways tail.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from weir.adapters import avro
from weir.core import reasons
from weir.core.batch import Batch, BatchResult, Load, RefusedRecord
from weir.core.registry import Quota
from weir.core.stages import RATES
from weir.rates.step import (
    QuotaUse,
    SourceUsage,
    UsageDelta,
    UsagePeriod,
    add_usage,
    evaluate_quotas,
)

# Return a source's quotas as they are in the registry now; return the sources changed since the last call.
QuotasOf = Callable[[str], tuple[Quota, ...]]
Changed = Callable[[], set[str]]


class RatesStage:
    """A `weir.core.batch.Step`: keeps the exact usage of every source and checks it against the source's quotas."""

    name = RATES.name
    writes = RATES.outputs

    def __init__(self, quotas_of: QuotasOf, changed: Changed) -> None:
        self._quotas_of = quotas_of
        self._changed = changed
        self._deltas = avro.PrefixReader("UsageDelta", "seconds")
        self._schema = avro.schemas()["SourceUsage"]
        self._stale: dict[int, set[str]] = {}  # partition -> sources whose quotas have changed

    def process(self, batch: Batch, load: Load) -> BatchResult:
        decided = BatchResult()
        by_source: dict[str, list[UsageDelta]] = {}
        for index, value in enumerate(batch.values):
            try:
                delta = _delta_of(self._deltas.read(value))
            except (avro.UnknownSchemaError, avro.UnreadableError) as fault:
                received_at = max(0, batch.timestamps[index])
                decided.refusals.append(
                    RefusedRecord(index, reasons.UNREADABLE, str(fault), "", received_at)
                )
                continue
            by_source.setdefault(delta.source, []).append(delta)
        decided.dropped = len(batch) - len(decided.refusals)
        known = load(source.encode() for source in by_source)
        for source, deltas in by_source.items():
            usage = self._usage(source, known)
            add_usage(usage, deltas)
            evaluate_quotas(usage, self._quotas_of(source))
            decided.changes[source.encode()] = self._encode(usage)
        return decided

    def refuse(self, batch: Batch, reason: str, detail: str) -> BatchResult:
        times = (max(0, timestamp) for timestamp in batch.timestamps)
        return BatchResult(
            refusals=[RefusedRecord(at, reason, detail, "", t) for at, t in enumerate(times)]
        )

    def refresh(self, partition: int, load: Load) -> BatchResult | None:
        """Apply changed quotas, even if their sources send nothing. Return None if no known source is affected."""
        self._note_changes(partition)
        sources = self._stale[partition]
        if not sources:
            return None
        known = load(source.encode() for source in sources)
        decided = BatchResult()
        for key in known:
            usage = self._usage(key.decode(), known)
            evaluate_quotas(usage, self._quotas_of(usage.source))
            decided.changes[key] = self._encode(usage)
        self._stale[partition] = set()
        return decided if decided.changes else None

    def forget(self) -> None:
        self._stale.clear()

    def _note_changes(self, partition: int) -> None:
        self._stale.setdefault(partition, set())
        changed = self._changed()
        for sources in self._stale.values():
            sources |= changed

    def _usage(self, source: str, known: dict[bytes, bytes]) -> SourceUsage:
        value = known.get(source.encode())
        if value is None:
            return SourceUsage(source)
        _, record = avro.decode_any(value)
        record["windows"] = [UsagePeriod(**window) for window in record["windows"]]
        record["quotas"] = [QuotaUse(**use) for use in record["quotas"]]
        record["recent_seconds"] = {
            entry["second"]: entry["events"] for entry in record["recent_seconds"]
        }
        return SourceUsage(**record)

    def _encode(self, usage: SourceUsage) -> bytes:
        record: dict[str, Any] = msgspec.to_builtins(usage)
        record["recent_seconds"] = [
            {"second": second, "events": events} for second, events in usage.recent_seconds.items()
        ]
        return self._schema.encode(record)


def _delta_of(record: avro.AvroRecord) -> UsageDelta:
    return UsageDelta(
        record["source"],
        record["minute"],
        record["outcome"],
        record["events"],
        record["bytes"],
        {entry["second"]: entry["events"] for entry in record["seconds"]},
    )
