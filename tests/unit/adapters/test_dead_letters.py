"""A dead letter of the sink names source, time and id of its event, so the audit can count it."""

import pytest

from tests.support.records import resolved
from weir.adapters import avro
from weir.adapters.dead_letters import sink_letter
from weir.core import topics
from weir.core.identifiers import payload_hash
from weir.core.record_limits import RecordLimits
from weir.runtime.sink_ports import DeadRecord, PartitionId

ID = bytes(range(16))
DUPLICATE = {
    "event_id": ID,
    "first_event_id": bytes(16),
    "source": "shop",
    "idempotency_key": "order-1",
    "same_payload": True,
    "received_at": 1_760_011_200_000,
    "first_received_at": 1_760_011_100_000,
}


def letter(value: bytes, most: int = 1_000) -> avro.AvroRecord:
    record = DeadRecord(PartitionId("any", 1), 7, b"key", value, 9, "refused", "why")
    return avro.decode_any(sink_letter(record, most))[1]


@pytest.mark.parametrize("value", [resolved(1), avro.schemas()["Duplicate"].encode(DUPLICATE)])
def test_a_dead_letter_keeps_source_received_at_and_event_id_of_its_record(value: bytes) -> None:
    _, record = avro.decode_any(value)
    found = letter(value)
    names = ("source", "received_at", "event_id")
    assert [found[name] for name in names] == [record[name] for name in names]
    assert (found["value"], found["died_at"]) == (value, 9)


@pytest.mark.parametrize("value", [b"", b"garbage"])
def test_a_dead_letter_of_an_undecodable_record_has_no_source(value: bytes) -> None:
    assert (letter(value)["source"], letter(value)["received_at"]) == ("", 0)


def test_a_dead_letter_over_the_size_limit_keeps_offset_and_digest_not_value() -> None:
    value = resolved(1)
    found = letter(value, len(value))
    assert (found["key"], found["value"], found["origin_offset"]) == (b"key", b"", 7)
    assert payload_hash(b"key", value).hex() in found["detail"]
    _, record = avro.decode_any(value)
    assert (found["source"], found["event_id"]) == (record["source"], record["event_id"])


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_dead_letter_of_the_largest_record_fits_its_topic(beyond: int) -> None:
    limits = RecordLimits()
    empty = resolved(1, source="")
    source = "s" * (limits.letter - len(empty) - 8 + 8 * beyond)
    value = resolved(1, source=source)
    record = DeadRecord(PartitionId("any", 1), 7, b"key", value, 9, "refused", "w" * 5_000)
    assert len(sink_letter(record, limits.letter)) <= limits.of(topics.DEAD)
