"""What a worker's batch came to, as records of `usage` and `events.dead`."""

from importlib.metadata import version

from services.core.step import Batch, Decided, Output
from services.edge import avro

VERSION = version("weir")


def encode_usage(step: str, batch: Batch, decided: Decided) -> list[Output]:
    """One delta a source, minute and outcome, named for good by the batch's place in its partition."""
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
            "fingerprint": signed(count.fingerprint),
        }
        outputs.append(Output(source.encode(), schema.encode(delta)))
    return outputs


def signed(number: int) -> int:
    """Modulo 2^64, as ClickHouse's Int64 holds it."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def encode_dead(step: str, batch: Batch, decided: Decided) -> list[Output]:
    """Each refused record, untouched, with who gave up, why, and where it came from."""
    schema = avro.schemas()["DeadLetter"]
    outputs = []
    for refusal in decided.refusals:
        letter = {
            "origin_topic": batch.topic,
            "origin_partition": batch.partition,
            "origin_offset": batch.offsets[refusal.at],
            "key": batch.keys[refusal.at],
            "value": batch.values[refusal.at],
            "step": step,
            "version": VERSION,
            "reason": refusal.reason,
            "detail": refusal.detail,
            "source": refusal.source,
            "received_at": refusal.received_at,
            "event_id": refusal.event_id,
            "died_at": max(0, batch.timestamps[refusal.at]),
        }
        outputs.append(Output(f"{batch.topic}-{batch.partition}".encode(), schema.encode(letter)))
    return outputs
