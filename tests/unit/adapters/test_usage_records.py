"""A usage delta records a batch's counts, its topic and offsets, and a fingerprint of its events."""

from dataclasses import replace

import pytest

from tests.support.events import NOON, accepted, accepted_output, batch_of
from weir.adapters import avro
from weir.adapters.usage_records import encode_usage, signed
from weir.core import topics
from weir.core.batch import BatchResult
from weir.core.resource_paths import SCHEMAS


def test_a_usage_delta_names_its_source_counts_topic_offsets_and_fingerprint() -> None:
    decided = BatchResult()
    decided.usage.add("shop", NOON + 5, "unique", 3, 300, (1 << 64) - 1)
    decided.usage.add("shop", NOON + 9, "unique", 1, 100, 3)
    batch = batch_of([accepted_output(accepted(n)) for n in range(4)], topics.ACCEPTED, 2)
    later = replace(batch, offsets=[5, 6, 7, 9], topic_id="made anew")
    (output,) = encode_usage("dedup", later, decided)
    name, fields = avro.decode_any(output.value)
    assert (name, output.key) == ("UsageDelta", b"shop")
    assert fields == {
        "source": "shop",
        "minute": NOON,
        "stage": "dedup",
        "outcome": "unique",
        "events": 4,
        "bytes": 400,
        "origin_topic": topics.ACCEPTED,
        "origin_partition": 2,
        "position": 10,
        "seconds": [],
        "topic_id": "made anew",
        "first": 5,
        "fingerprint": 2,
    }


def test_the_rest_of_a_half_settled_batch_keeps_its_topic_id() -> None:
    batch = batch_of([accepted_output(accepted(n)) for n in range(4)])
    assert replace(batch, topic_id="t").since(2).topic_id == "t"


@pytest.mark.parametrize(
    ("number", "held"),
    [(0, 0), ((1 << 63) - 1, (1 << 63) - 1), (1 << 63, -(1 << 63)), ((1 << 64) + 7, 7)],
)
def test_a_fingerprint_wraps_to_a_signed_64_bit_integer_as_in_clickhouse(
    number: int, held: int
) -> None:
    assert signed(number) == held


def test_a_usage_delta_of_the_previous_version_is_read_with_defaults() -> None:
    (path,) = SCHEMAS.glob("past/usage_delta_*.avsc")
    past = next(s for s in avro.schemas_by_header().values() if s.fields[-1] == "seconds")
    assert past.name == "UsageDelta", path
    known = {"source": "shop", "minute": NOON, "stage": "dedup", "outcome": "unique"}
    counted = {"events": 1, "bytes": 2, "origin_topic": "t", "origin_partition": 0, "position": 1}
    _, fields = avro.decode_any(past.encode({**known, **counted, "seconds": []}))
    assert (fields["topic_id"], fields["first"], fields["fingerprint"]) == ("", 0, 0)
