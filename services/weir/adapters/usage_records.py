"""Encode the outcomes of a worker's batch as records of `usage` and `events.dead`."""

from importlib.metadata import version

from weir.adapters import avro
from weir.core.batch import Batch, BatchResult, Output
from weir.core.dead_letter_content import MAX_SOURCE, stored_in_letter

VERSION = version("weir")


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


def encode_dead(step: str, batch: Batch, decided: BatchResult, most: int) -> list[Output]:
    """Return a dead letter for each refused record: the record itself, the step, the reason and the origin.

    `most`: the size of the largest record that a letter stores whole; see `stored_in_letter`.
    """
    schema = avro.schemas()["DeadLetter"]
    outputs = []
    for refusal in decided.refusals:
        key, value = batch.keys[refusal.at], batch.values[refusal.at]
        stored = stored_in_letter(key, value, refusal.detail, most)
        letter = {
            "origin_topic": batch.topic,
            "origin_partition": batch.partition,
            "origin_offset": batch.offsets[refusal.at],
            "key": stored.key,
            "value": stored.value,
            "step": step,
            "version": VERSION,
            "reason": refusal.reason,
            "detail": stored.detail,
            "source": refusal.source[:MAX_SOURCE],
            "received_at": refusal.received_at,
            "event_id": refusal.event_id,
            "died_at": max(0, batch.timestamps[refusal.at]),
        }
        outputs.append(Output(f"{batch.topic}-{batch.partition}".encode(), schema.encode(letter)))
    return outputs
