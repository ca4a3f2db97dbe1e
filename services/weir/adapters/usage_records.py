"""Encode the outcomes of a worker's batch as records of `usage`."""

from weir.adapters import avro
from weir.core.batch import Batch, BatchResult, Output


def encode_usage(step: str, batch: Batch, decided: BatchResult) -> list[Output]:
    """Return one usage delta per source, minute and outcome, identified by the batch's position in its partition."""
    schema = avro.schemas()["UsageDelta"]
    outputs = []
    for (source, minute, outcome), count in decided.usage.counts.items():
        delta = {
            "source": source,
            "minute": minute,
            "stage": step,
            "outcome": outcome,
            "events": count.events,
            "bytes": count.bytes,
            "origin_topic": batch.topic,
            "origin_partition": batch.partition,
            "position": batch.position,
            "seconds": [{"second": s, "events": n} for s, n in sorted(count.seconds.items())],
            "topic_id": batch.topic_id,
            "first": batch.offsets[0],
            "fingerprint": signed(count.id_checksum),
        }
        outputs.append(Output(source.encode(), schema.encode(delta)))
    return outputs


def signed(number: int) -> int:
    """Return the number modulo 2^64 as a signed 64-bit value, as in ClickHouse's Int64."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
