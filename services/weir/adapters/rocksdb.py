"""Keyed state on local disk: one RocksDB per partition, with rocksdict in raw mode (bytes to bytes)."""

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict, WriteBatch

from weir.adapters.rocksdb_expiry import CURSOR_KEY, Sweeper
from weir.core.batch import Changes, State
from weir.runtime import logs
from weir.runtime.ports import StorePositions

POSITIONS_KEY = b"\0positions"
MEBIBYTE = 1 << 20
# Stores of another format are ignored; the state is rebuilt from the changelog.
FORMAT = "store-2"
# The last bytes of a completely written table file.
# https://github.com/facebook/rocksdb/wiki/Rocksdb-BlockBasedTable-Format#footer
TABLE_END = 0x88E241B785F4CFF7.to_bytes(8, "little")
# A marker file that requests a rebuild of the store. It is created when an open store finds damage.
DAMAGED = "damaged"
FEW_DELETIONS = 100  # with more, one compaction of the whole key range costs less

# Faults of the machine: the files are intact, and a rebuild would meet the same fault. (`\b`: not "block".)
_IS_OF_THE_MACHINE = re.compile(
    r"\block\b|no space left|quota exceeded|too many open files|permission denied|allocate memory",
    re.IGNORECASE,
)


class RocksStore:
    """`weir.runtime.ports.Store` on one RocksDB.

    The write-ahead log is not fsynced: after a power cut the store may be older, but consistent; the
    changelog replays the rest. A call that meets a damaged block fails, and the next open rebuilds the store.
    """

    def __init__(self, db: Rdict, path: Path, kept_ms: int = 0) -> None:
        self._db = db
        self._path = path
        self._sweeper = Sweeper(self._scan, kept_ms, db.get(CURSOR_KEY)) if kept_ms else None

    def positions(self) -> StorePositions | None:
        raw = self._db.get(POSITIONS_KEY)
        if raw is None:
            return None
        return StorePositions(*(int.from_bytes(raw[i : i + 8], signed=True) for i in (0, 8)))

    def load(self, keys: Iterable[bytes]) -> State:
        wanted = sorted(set(keys))  # neighbouring keys are read together
        with self._noting_damage():
            found = self._db.get(wanted)
        return {key: value for key, value in zip(wanted, found, strict=True) if value is not None}

    def apply(self, changes: Changes, positions: StorePositions) -> None:
        """See the port. Deletions are expensive: the files that held the deleted values are rewritten.

        Expired entries are deleted in the same write. Their bytes disappear with a later compaction.
        """
        with self._noting_damage():
            self._apply(changes, positions)

    def _apply(self, changes: Changes, positions: StorePositions) -> None:
        batch = WriteBatch(raw_mode=True)
        for key, value in sorted(changes.items()):
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if self._sweeper is not None:
            swept = self._sweeper.sweep(changes)
            for key in swept.outdated:
                batch.delete(key)
            batch.put(CURSOR_KEY, swept.cursor)
        batch.put(POSITIONS_KEY, b"".join(p.to_bytes(8, signed=True) for p in positions))
        self._db.write(batch)
        deleted = [key for key, value in changes.items() if value is None]
        if deleted:
            self._rewrite(deleted)

    def _rewrite(self, deleted: list[bytes]) -> None:
        """Rewrite files so that none holds the deleted values: a deletion only hides them until a compaction.

        The manifest may still name a deleted key as the first or last of a file; the next start rewrites it.
        """
        self._db.flush()  # this also removes the write-ahead log that held them
        if len(deleted) > FEW_DELETIONS:
            self._db.compact_range(min(deleted), max(deleted))
            return
        for key in deleted:
            self._db.compact_range(key, key)  # only files whose range includes the key

    @contextmanager
    def _noting_damage(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:  # rocksdict raises bare Exception for every fault
            if "Corruption" in str(fault):
                (self._path / DAMAGED).touch()
            raise

    def _scan(self, start: bytes) -> Iterable[tuple[bytes, bytes]]:
        return _entries(self._db, start)

    def close(self) -> None:
        self._db.close()


def _entries(db: Rdict, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yield all entries from a key on. Raise an exception at a damaged block, where `items` just ends silently."""
    last = start
    for key, value in db.items(from_key=start):
        last = key
        yield key, value
    rest = db.iter()
    if last is None:
        rest.seek_to_first()
    else:
        rest.seek(last)
    if rest.valid():
        rest.next()
    rest.status()


def read_entries(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield all entries that a store has on disk now, without disturbing the process that uses it."""
    options = Options(raw_mode=True)
    options.create_if_missing(False)
    db = Rdict(str(path), options, access_type=AccessType.read_only())
    try:
        yield from _entries(db)
    finally:
        db.close()


class DamagedError(Exception):
    """If it were opened, the store would have lost data."""


def _whole_tables(path: Path) -> set[int]:
    """Return the numbers of the completely written table files.

    A truncated manifest looks like an older, valid one, and the write-ahead log is applied to the tables that
    it names: then keys are missing, but the positions are not. A complete table that is newer than those
    reveals it. Tables that a crash left behind during a flush or a compaction are not complete.
    """
    found = set()
    for table in path.glob("*.sst"):
        with table.open("rb") as file:
            file.seek(max(0, table.stat().st_size - len(TABLE_END)))
            if file.read() == TABLE_END:
                found.add(_number(table.name))
    return found


def _number(name: str) -> int:
    return int(Path(name).stem)


class RocksStores:
    """The stores of one worker instance, in one folder."""

    def __init__(self, folder: Path, kept_ms: int = 0) -> None:
        """`kept_ms`: how long after their time entries expire, see `Sweeper`; 0: never."""
        self._folder = folder
        self._kept_ms = kept_ms
        self._cache = Cache(16 * MEBIBYTE)
        self._log = logs.get("store")

    def open(self, partition: int) -> RocksStore:
        path = self._path(partition)
        try:
            return self._open(path)
        except Exception as fault:  # rocksdict raises bare Exception for every fault
            if _IS_OF_THE_MACHINE.search(str(fault)):
                raise
            self._log.warning(
                "local state is damaged, rebuilding it", path=str(path), fault=str(fault)
            )
            return self.discard(partition)

    def discard(self, partition: int) -> RocksStore:
        shutil.rmtree(self._path(partition), ignore_errors=True)
        return self._open(self._path(partition))

    def _open(self, path: Path) -> RocksStore:
        path.mkdir(parents=True, exist_ok=True)
        if (path / DAMAGED).exists():
            raise DamagedError("a block of it could not be read")
        # Never use `AccessType.with_ttl`: with it, a batch writes values without a timestamp, but a
        # compaction takes their last bytes for one. It dropped nearly all values once a store had been
        # opened a few times. `rocksdb_expiry` expires entries instead.
        tables = _whole_tables(path)
        db = Rdict(str(path), self._options(), access_type=AccessType.read_write())
        try:
            # tables that the recovery has just written from the log are newer than all others
            known = tables & {_number(file["name"]) for file in db.live_files()}
            if lost := {number for number in tables if number > max(known, default=0)}:
                raise DamagedError(
                    f"tables {sorted(lost)} are whole, but the manifest does not name them"
                )
            store = RocksStore(db, path, self._kept_ms)
            store.positions()  # so that damage is found now, not in the middle of a batch
        except BaseException:
            db.close()  # releases the lock, so that the store can be created again
            raise
        return store

    def _path(self, partition: int) -> Path:
        return self._folder / f"{FORMAT}-{partition}"

    def _options(self) -> Options:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(8 * MEBIBYTE)
        options.set_max_write_buffer_number(2)
        options.set_memtable_whole_key_filtering(True)
        options.set_memtable_prefix_bloom_ratio(0.1)
        options.set_max_background_jobs(1)
        options.set_keep_log_file_num(2)
        options.set_max_total_wal_size(32 * MEBIBYTE)
        blocks = BlockBasedOptions()
        blocks.set_bloom_filter(10, False)
        blocks.set_block_cache(self._cache)
        options.set_block_based_table_factory(blocks)
        return options
