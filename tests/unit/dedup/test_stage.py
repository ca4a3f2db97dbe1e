"""Dedup forwards events unchanged, reports each duplicate and turns unreadable records into refusals."""

from tests.support.events import NOON, accepted, accepted_output, batch_of
from weir.adapters import avro
from weir.adapters.receipt_records import decode_receipt
from weir.core import topics
from weir.core.batch import BatchResult, Output, id_checksum
from weir.core.receipts import Receipt
from weir.dedup.stage import DedupStage


def process(outputs: list[Output]) -> BatchResult:
    decided = DedupStage().process(batch_of(outputs), lambda keys: {})
    decided.check(len(outputs), DedupStage.writes)
    return decided


def test_the_first_occurrence_is_forwarded_unchanged_under_its_identity_key() -> None:
    output = accepted_output(accepted(1, user_id="7", properties='{"a": 1}'))
    (forwarded,) = process([output]).outputs[topics.UNIQUE]
    assert forwarded == Output(b"acme\0u:7", output.value)


def test_an_event_without_identifiers_is_keyed_by_its_event_id() -> None:
    record = accepted(1)
    (forwarded,) = process([accepted_output(record)]).outputs[topics.UNIQUE]
    assert forwarded.key == record["event_id"]


def test_a_duplicate_record_names_the_first_event() -> None:
    first = accepted(1, idempotency_key="k")
    repeat = accepted(2, idempotency_key="k", properties='{"other": true}', received_at=NOON + 5)
    (duplicate,) = process([accepted_output(first), accepted_output(repeat)]).outputs[
        topics.DUPLICATE
    ]
    _, fields = avro.decode_any(duplicate.value)
    assert fields == {
        "event_id": repeat["event_id"],
        "first_event_id": first["event_id"],
        "source": "shop",
        "idempotency_key": "k",
        "same_payload": False,
        "received_at": NOON + 5,
        "first_received_at": NOON,
    }


def test_the_same_idempotency_key_of_another_source_is_not_a_duplicate() -> None:
    here, there = accepted(1, idempotency_key="k"), accepted(2, idempotency_key="k", source="blog")
    decided = process([accepted_output(here), accepted_output(there)])
    assert decided.emitted == 2


def test_an_unreadable_record_is_refused_and_counted_for_the_source_in_its_key() -> None:
    good = accepted_output(accepted(1))
    cut = Output(good.key, good.value[:20])
    strange = Output(b"", b"not avro")
    decided = process([cut, strange, good])
    assert [refusal.at for refusal in decided.refusals] == [0, 1]
    assert decided.refusals[0].source == "shop"
    assert decided.emitted == 1


def test_an_event_received_before_1970_is_refused_and_the_next_one_is_processed() -> None:
    wrong, good = accepted_output(accepted(1, received_at=-1)), accepted_output(accepted(2))
    decided = process([wrong, good])
    assert [refusal.at for refusal in decided.refusals] == [0]
    assert decided.emitted == 1


def test_usage_counts_accepted_unique_and_duplicate_events() -> None:
    outputs = [accepted_output(accepted(n, idempotency_key=str(n // 2))) for n in range(4)]
    counts = process(outputs).usage.counts
    counted = {outcome: count.events for (_, _, outcome), count in counts.items()}
    assert counted == {"accepted": 4, "unique": 2, "duplicate": 2}
    accepted_count = counts[("shop", NOON, "accepted")]
    assert accepted_count.bytes == sum(len(output.value) for output in outputs)
    assert accepted_count.seconds == {0: 4}


def test_usage_has_a_fingerprint_of_the_event_ids_of_each_outcome() -> None:
    records = [accepted(n, idempotency_key=str(n // 2)) for n in range(4)]
    counts = process([accepted_output(record) for record in records]).usage.counts
    ids = [record["event_id"] for record in records]
    assert counts[("shop", NOON, "unique")].id_checksum == id_checksum([ids[0], ids[2]])
    assert counts[("shop", NOON, "duplicate")].id_checksum == id_checksum([ids[1], ids[3]])


def test_an_event_read_twice_counts_once_and_its_second_offset_as_reread() -> None:
    output = accepted_output(accepted(1))
    decided = process([output, output])
    counted = {outcome: count.events for (_, _, outcome), count in decided.usage.counts.items()}
    assert counted == {"accepted": 1, "unique": 1, "reread": 1}


def test_a_duplicate_written_twice_by_the_producer_counts_as_one_duplicate() -> None:
    first, repeat = (accepted_output(accepted(n, idempotency_key="k")) for n in (1, 2))
    decided = process([first, repeat, repeat])
    counted = {outcome: count.events for (_, _, outcome), count in decided.usage.counts.items()}
    assert counted == {"accepted": 2, "unique": 1, "duplicate": 1, "reread": 1}
    assert len(decided.outputs[topics.DUPLICATE]) == 1


def test_a_duplicate_with_wants_receipt_gets_a_receipt_naming_the_first_event() -> None:
    first = accepted(1, idempotency_key="k", wants_receipt=True)
    repeat = accepted(2, idempotency_key="k", wants_receipt=True)
    silent = accepted(3, idempotency_key="k")
    decided = process([accepted_output(record) for record in (first, repeat, silent)])
    (receipt,) = decided.outputs[topics.RECEIPTS]
    assert decode_receipt(receipt.value) == Receipt(
        event_id=repeat["event_id"],
        step="dedup",
        outcome="duplicate",
        received_at=NOON,
        first_event_id=first["event_id"],
        same_payload=True,
    )
    assert receipt.key == repeat["event_id"]


def test_a_duplicate_truncated_after_its_idempotency_key_is_still_a_duplicate() -> None:
    first, repeat = accepted(1, idempotency_key="k"), accepted(2, idempotency_key="k")
    whole = accepted_output(repeat)
    cut = Output(whole.key, whole.value[: whole.value.index(b"page_view")])
    decided = process([accepted_output(first), cut])
    assert len(decided.outputs[topics.DUPLICATE]) == 1
    assert topics.RECEIPTS not in decided.outputs
