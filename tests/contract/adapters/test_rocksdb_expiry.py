"""An expiring RocksDB store keeps every entry of its window, and its size stays bounded."""

import random
import time
from pathlib import Path

import pytest

from weir.adapters.rocksdb import RocksStore, RocksStores, read_entries
from weir.runtime.ports import StorePositions

KEPT_SECONDS = 1_000
KEPT_MS = 1_000 * KEPT_SECONDS
NOON_MS = 1_760_011_200_000
ENTRIES = 4  # a second
BATCH_SECONDS = 25


def key_of(number: int) -> bytes:
    return random.Random(number).randbytes(16).replace(b"\0", b"\1")


def changes_at(second: int) -> dict[bytes, bytes | None]:
    """The entries of one batch, `BATCH_SECONDS` long."""
    numbers = range(second * ENTRIES, (second + BATCH_SECONDS) * ENTRIES)
    return {key_of(n): (NOON_MS + 1_000 * (n // ENTRIES)).to_bytes(8) for n in numbers}


@pytest.fixture
def stores(tmp_path: Path) -> RocksStores:
    return RocksStores(tmp_path, KEPT_MS)


def held(folder: Path) -> list[bytes]:
    (store,) = folder.glob("store-*")
    return [value for key, value in read_entries(store) if not key.startswith(b"\0")]


def has_all(store: RocksStore, since: int, until: int) -> bool:
    keys = [key_of(number) for number in range(max(0, since) * ENTRIES, until * ENTRIES)]
    return len(store.load(keys)) == len(keys)


def test_an_expiring_store_keeps_its_window_and_at_most_half_as_much_again(
    stores: RocksStores, tmp_path: Path
) -> None:
    """This holds for four times the expiry window, with restarts in between."""
    store = stores.open(0)
    for second in range(0, 4 * KEPT_SECONDS, BATCH_SECONDS):
        store.apply(changes_at(second), StorePositions(second, second))
        end = second + BATCH_SECONDS
        assert has_all(store, end - KEPT_SECONDS, end)
        if second % 500 == 0:
            store.close()
            store = stores.open(0)
            assert store.positions() == StorePositions(second, second)
    most = KEPT_SECONDS * ENTRIES
    assert most <= len(held(tmp_path)) <= 1.5 * most + 2 * BATCH_SECONDS * ENTRIES
    store.close()


def test_late_entries_with_old_times_expire_no_other_entry(stores: RocksStores) -> None:
    store = stores.open(0)
    store.apply(changes_at(0), StorePositions(1, 1))
    store.close()
    store = stores.open(0)  # what is decided from now on is from before, as after a long stop
    for number in range(40):
        late = {b"late-%d" % number: (NOON_MS - 10 * KEPT_MS).to_bytes(8)}
        store.apply(late, StorePositions(2, 2))
    assert has_all(store, 0, BATCH_SECONDS)
    store.close()


def test_an_entry_with_a_future_time_expires_no_other_entry(stores: RocksStores) -> None:
    store = stores.open(0)
    present = (time.time_ns() // 1_000_000 - KEPT_MS // 2).to_bytes(8)
    store.apply({b"k": present}, StorePositions(1, 1))
    for number in range(10):  # from a gateway whose clock is wrong
        store.apply({b"x%d" % number: (2**62).to_bytes(8)}, StorePositions(2, 2))
    assert store.load([b"k"]) == {b"k": present}
    store.close()


def test_an_entry_rewritten_after_its_expiry_is_kept(stores: RocksStores) -> None:
    """The first event of a key after its window replaces the entry of the one before."""
    store = stores.open(0)
    store.apply({b"k": NOON_MS.to_bytes(8)}, StorePositions(1, 1))
    later = (NOON_MS + 10 * KEPT_MS).to_bytes(8)
    store.apply({b"k": later}, StorePositions(2, 2))
    assert store.load([b"k"]) == {b"k": later}
    store.close()


def test_a_store_without_an_expiry_keeps_all_entries(tmp_path: Path) -> None:
    store = RocksStores(tmp_path).open(0)
    for second in range(0, 3 * KEPT_SECONDS, BATCH_SECONDS):
        store.apply(changes_at(second), StorePositions(second, second))
    assert has_all(store, 0, 3 * KEPT_SECONDS)
    store.close()
