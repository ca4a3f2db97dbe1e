"""Encode dead letters: records that a step or the sink refused, whole and with the reason."""

from contextlib import suppress
from importlib.metadata import version
from typing import Any

from weir.adapters import avro
from weir.core.batch import Batch, BatchResult, Output
from weir.core.dead_letter_content import MAX_SOURCE, stored_in_letter
from weir.core.stages import SINK
from weir.runtime.sink_ports import DeadRecord

VERSION = version("weir")


def worker_letters(step: str, batch: Batch, decided: BatchResult, most: int) -> list[Output]:
    """Return a dead letter for each record that a step refused, keyed by the partition it came from.

    `most`: the size of the largest record that a letter stores whole; see `stored_in_letter`.
    """
    outputs = []
    for refusal in decided.refusals:
        letter = {
            "origin_topic": batch.topic,
            "origin_partition": batch.partition,
            "origin_offset": batch.offsets[refusal.at],
            "step": step,
            "reason": refusal.reason,
            "source": refusal.source,
            "received_at": refusal.received_at,
            "event_id": refusal.event_id,
            "died_at": batch.timestamps[refusal.at],
        }
        key, value = batch.keys[refusal.at], batch.values[refusal.at]
        encoded = _encode(letter, key, value, refusal.detail, most)
        outputs.append(Output(f"{batch.topic}-{batch.partition}".encode(), encoded))
    return outputs


def sink_letter(record: DeadRecord, most: int) -> bytes:
    """Return the dead letter of a record of the sink, with those of its routing fields that are readable.

    `most`: the size of the largest record that a letter stores whole; see `stored_in_letter`.
    """
    letter: dict[str, Any] = {
        "origin_topic": record.place.topic,
        "origin_partition": record.place.partition,
        "origin_offset": record.offset,
        "step": SINK.name,
        "reason": record.reason,
        "source": "",
        "received_at": 0,
        "event_id": None,
        "died_at": record.timestamp,
    }
    return _encode(letter | _routing(record.value), record.key, record.value, record.detail, most)


def _encode(letter: dict[str, Any], key: bytes, value: bytes, detail: str, most: int) -> bytes:
    stored = stored_in_letter(key, value, detail, most)
    return avro.schemas()["DeadLetter"].encode(
        letter
        | {
            "key": stored.key,
            "value": stored.value,
            "detail": stored.detail,
            "version": VERSION,
            "source": letter["source"][:MAX_SOURCE],
            "died_at": max(0, letter["died_at"]),
        }
    )


def _routing(value: bytes) -> dict[str, Any]:
    """Return source, receipt time and event id, for records that the books count by source and minute; else {}."""
    for name, last in (("Resolved", "source"), ("Duplicate", "received_at")):
        reader = avro.PrefixReader(name, last)
        with suppress(avro.UnknownSchemaError, avro.UnreadableError):
            if reader.reads(value):
                read = reader.read(value)
                return {field: read[field] for field in ("source", "received_at", "event_id")}
    return {}
