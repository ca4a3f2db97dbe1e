"""The store's contract, on memory and on RocksDB."""

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


def test_changes_and_positions_are_there_after_reopening(stores: Stores) -> None:
    store = stores.open(0)
    store.apply({b"k": b"1", b"l": b"2"}, StorePositions(5, 7))
    store.apply({b"k": None, b"m": b"3"}, StorePositions(6, -1))
    store.close()
    store = stores.open(0)
    assert store.load([b"k", b"l", b"m", b"l"]) == {b"l": b"2", b"m": b"3"}
    assert store.positions() == StorePositions(6, -1)
    store.close()


def test_nothing_is_forgotten_however_often_it_is_reopened(stores: Stores) -> None:
    """Each closing writes a file, and a few files are compacted into one."""
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


def test_partitions_are_apart_and_a_discarded_one_is_empty(stores: Stores) -> None:
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


def test_what_is_deleted_is_in_no_file_any_more(tmp_path: Path) -> None:
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


def test_a_manifest_that_was_cut_short_hides_nothing(tmp_path: Path) -> None:
    """Cut short it is an older whole one: tables are forgotten, and the log has the position."""
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


def test_a_damaged_block_is_damage_and_no_lock(tmp_path: Path) -> None:
    """The words of the fault hold "lock": "block checksum mismatch"."""
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


def test_a_block_that_is_found_damaged_later_is_rebuilt_at_the_next_start(tmp_path: Path) -> None:
    """What a start reads is whole; a call meets the damage."""
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


def test_a_full_disk_is_no_damage(tmp_path: Path) -> None:
    """The store is not thrown away for it: it is as it was once there is room."""
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
