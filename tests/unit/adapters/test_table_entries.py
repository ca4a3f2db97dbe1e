"""A damaged entry of a compacted topic is skipped and every other entry still applies."""

from collections.abc import Callable

import pytest

from weir.adapters import avro
from weir.adapters.kafka.clients import Entry
from weir.adapters.receipt_records import encode_receipt
from weir.core.receipts import Receipt
from weir.core.registry import Source
from weir.erasure.model import Erasure
from weir.erasure.topic import Erasures, erasure_entries
from weir.gateway.ingest.receipts import Receipts
from weir.gateway.registry_copy import Registry
from weir.registry.follower import registry_key, source_entry

GOOD = source_entry(Source(id="shop"))
BROKEN: list[Callable[[bytes, bytes], Entry]] = [
    lambda key, value: (key, b""),
    lambda key, value: (key, b"\xff" * 40),
    lambda key, value: (key, value[: len(value) // 2]),
    lambda key, value: (key, value[:10] + b"\xff" * len(value)),
    lambda key, value: (b"\xff\xfe" + key, value),
    lambda key, value: (b"", value),
]


@pytest.mark.parametrize("damage", BROKEN)
def test_a_damaged_registry_entry_is_skipped_and_the_others_load(
    damage: Callable[[bytes, bytes], Entry],
) -> None:
    registry = Registry()
    other = source_entry(Source(id="blog"))
    registry.apply_sources([GOOD, damage(*GOOD), other])
    assert registry.loaded
    assert {"shop", "blog"} <= registry.by_id.keys()


def test_a_registry_entry_whose_document_is_not_json_is_skipped() -> None:
    record = {"kind": "source", "id": "shop", "document": "{", "updated_at": 0}
    value = avro.schemas()["RegistryEntry"].encode(record)
    registry = Registry()
    registry.apply_sources([GOOD, (registry_key("source", "shop"), value)])
    assert registry.loaded
    assert "shop" in registry.by_id


@pytest.mark.parametrize("damage", BROKEN)
def test_a_damaged_quota_entry_does_not_stop_the_registry_from_loading(
    damage: Callable[[bytes, bytes], Entry],
) -> None:
    registry = Registry()
    registry.apply_usage([damage(b"shop", avro.schemas()["RegistryEntry"].header + b"x" * 20)])
    registry.apply_sources([GOOD])
    assert registry.loaded


@pytest.mark.parametrize("damage", BROKEN)
def test_a_damaged_erasure_entry_is_skipped_and_the_others_load(
    damage: Callable[[bytes, bytes], Entry],
) -> None:
    (first,) = erasure_entries(Erasure("one", "acme", "user:ada", 1))
    (second,) = erasure_entries(Erasure("two", "acme", "user:bob", 2))
    erasures = Erasures()
    erasures.apply([first, damage(*second), second])
    assert erasures.loaded
    assert {"one", "two"} <= {erasure.erasure_id for erasure in erasures.pending()}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_damaged_receipt_is_skipped_and_the_next_one_counts(
    damage: Callable[[bytes, bytes], Entry],
) -> None:
    event_id = bytes(16)
    receipt = Receipt(event_id=event_id, step="identity", outcome="resolved", received_at=0)
    receipts = Receipts()
    key, value = encode_receipt(receipt)
    with receipts.expect([event_id]) as waiting:
        receipts.apply([damage(key, value), (key, value)])
        assert waiting.open == set()
