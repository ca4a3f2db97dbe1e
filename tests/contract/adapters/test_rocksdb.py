"""A store keeps its contract in memory and on RocksDB."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drill.disk import CannotMountError, SmallDisk
from tests.support.running import wait_until
from weir.adapters.memory import MemoryStores
from weir.adapters.rocksdb import POSITIONS_KEY, RocksStores, read_entries
from weir.runtime.ports import StorePositions, Stores

Reopen = Callable[[], Stores]


@pytest.fixture(params=["memory", "rocksdb"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    if request.param == "memory":
        return MemoryStores()
    return RocksStores(tmp_path)


def test_a_new_store_is_empty(stores: Stores) -> None:
    store = stores.open(0)
    assert store.positions() is None
    assert store.load([b"k"]) == {}
    store.close()


def test_changes_and_positions_survive_reopening(stores: Stores) -> None:
    store = stores.open(0)
    store.apply({b"k": b"1", b"l": b"2"}, StorePositions(5, 7))
    store.apply({b"k": None, b"m": b"3"}, StorePositions(6, -1))
    store.close()
    store = stores.open(0)
    assert store.load([b"k", b"l", b"m", b"l"]) == {b"l": b"2", b"m": b"3"}
    assert store.positions() == StorePositions(6, -1)
    store.close()


def test_a_store_keeps_all_entries_over_many_reopenings(stores: Stores) -> None:
    """Each close writes a file, and compaction merges a few files into one."""
    written = 0
    for _ in range(8):
        store = stores.open(0)
        for _ in range(3):
            entries = {b"%d" % n: b"%064d" % n for n in range(written, written + 100)}
            written += len(entries)
            store.apply(entries, StorePositions(written, written))
        store.close()
    store = stores.open(0)
    wait_until(lambda: store.positions() == StorePositions(written, written), 5, "the store")
    keys = [b"%d" % n for n in range(written)]
    assert len(store.load(keys)) == written
    store.close()


def test_partitions_are_separate_and_a_discarded_one_is_empty(stores: Stores) -> None:
    here, there = stores.open(0), stores.open(1)
    here.apply({b"k": b"1"}, StorePositions(1, 1))
    there.apply({b"k": b"2"}, StorePositions(2, 2))
    here.close()
    there.close()
    here, there = stores.discard(0), stores.open(1)
    assert here.positions() is None
    assert there.load([b"k"]) == {b"k": b"2"}
    here.close()
    there.close()


@pytest.mark.parametrize("damage", ["garbage", "truncated", "missing"])
def test_a_damaged_rocksdb_starts_empty_instead_of_failing(tmp_path: Path, damage: str) -> None:
    stores = RocksStores(tmp_path)
    store = stores.open(0)
    store.apply({b"k": b"1"}, StorePositions(1, 1))
    store.close()
    for path in tmp_path.glob("*-0/MANIFEST*"):
        if damage == "garbage":
            path.write_bytes(b"\xff" * 100)
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[:10])
        else:
            path.unlink()
    store = stores.open(0)
    assert store.positions() is None
    store.close()


def test_a_deleted_value_disappears_from_every_file(tmp_path: Path) -> None:
    store = RocksStores(tmp_path).open(0)
    secret, other = (random.Random(n).randbytes(500) for n in (1, 2))  # no compression hides them
    store.apply({b"a": other, b"k": secret, b"z": other}, StorePositions(1, 1))

    def holding(content: bytes) -> set[Path]:
        return {p for p in tmp_path.rglob("*") if p.is_file() and content in p.read_bytes()}

    assert holding(secret)
    store.apply({b"k": None}, StorePositions(2, 2))
    wait_until(lambda: not holding(secret), 10, "the old file to go")
    assert holding(other)
    assert dict(read_entries(tmp_path / "store-2-0")).keys() == {b"a", b"z", POSITIONS_KEY}
    store.close()


def test_a_truncated_manifest_loses_no_entry_below_the_stored_position(tmp_path: Path) -> None:
    """A truncated manifest reads as an older whole one, which omits tables below the log's position."""
    stores = RocksStores(tmp_path / "whole")
    store = stores.open(0)
    for batch in range(20):
        changes = {b"%06d" % n: bytes(300) for n in range(500 * batch, 500 * (batch + 1))}
        store.apply(changes, StorePositions(500 * (batch + 1), 0))
        if batch % 7 == 6:
            store.apply({b"gone": b"soon"}, StorePositions(500 * (batch + 1), 0))
            store.apply({b"gone": None}, StorePositions(500 * (batch + 1), 0))  # writes a table
    image = tmp_path / "image"
    shutil.copytree(tmp_path / "whole", image)  # as kill -9 leaves it
    store.close()
    (manifest,) = image.rglob("MANIFEST-*")
    whole = manifest.read_bytes()
    for cut in range(0, len(whole) + 1, 20):
        damaged = tmp_path / str(cut)
        shutil.copytree(image, damaged)
        (damaged / manifest.relative_to(image)).write_bytes(whole[:cut])
        opened = RocksStores(damaged).open(0)
        positions = opened.positions()
        count = positions.input if positions else 0
        assert len(opened.load([b"%06d" % n for n in range(count)])) == count, cut
        opened.close()


def test_a_damaged_block_is_treated_as_damage_and_not_as_a_held_lock(tmp_path: Path) -> None:
    """The store is rebuilt although the error's text, "block checksum mismatch", contains "lock"."""
    stores = RocksStores(tmp_path)
    store = stores.open(0)
    store.apply(
        {b"%06d" % n: random.Random(n).randbytes(100) for n in range(2_000)}, StorePositions(1, 1)
    )
    store.close()
    (folder,) = tmp_path.iterdir()
    for table in folder.glob("*.sst"):
        with table.open("r+b") as file:
            file.write(bytes(4_096))
    store = stores.open(0)
    assert store.positions() is None  # rebuilt, from here on
    store.close()


def test_a_store_whose_damage_is_found_in_a_load_is_rebuilt_at_the_next_start(
    tmp_path: Path,
) -> None:
    """Opening reads only intact blocks, so the first load finds the damage."""
    keys = [b"%06d" % n for n in range(2_000)]
    stores = RocksStores(tmp_path)
    store = stores.open(0)
    store.apply({key: random.Random(key).randbytes(100) for key in keys}, StorePositions(1, 1))
    store.close()
    (folder,) = tmp_path.iterdir()
    (table,) = folder.glob("*.sst")
    with table.open("r+b") as file:
        file.seek(table.stat().st_size // 2)
        file.write(bytes(4_096))
    store = RocksStores(tmp_path).open(0)
    assert store.positions() == StorePositions(1, 1)
    with pytest.raises(Exception, match="Corruption"):
        store.load(keys)
    store.close()
    store = RocksStores(tmp_path).open(0)
    assert store.positions() is None
    assert store.load(keys) == {}
    store.close()


def test_a_full_disk_is_not_treated_as_damage(tmp_path: Path) -> None:
    """The store is not discarded: it is unchanged once the disk has room again."""
    folder = tmp_path / "state"
    folder.mkdir()
    try:
        disk = SmallDisk(folder, 24).__enter__()
    except CannotMountError as fault:
        pytest.skip(f"this user may not mount a small disk: {fault}")
    try:
        stores = RocksStores(folder)
        store = stores.open(0)
        store.apply({b"k": b"1"}, StorePositions(5, 7))
        store.close()
        disk.fill()
        with pytest.raises(Exception, match="No space left on device"):
            stores.open(0)
        disk.free()
        store = stores.open(0)
        assert store.positions() == StorePositions(5, 7)
        assert store.load([b"k"]) == {b"k": b"1"}
        store.close()
    finally:
        disk.__exit__(None, None, None)
