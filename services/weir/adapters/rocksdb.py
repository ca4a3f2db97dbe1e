"""Keyed state on local disk: one RocksDB a partition, through rocksdict in raw mode (bytes to bytes)."""

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
# Stores of another format are left aside, and rebuilt from the changelog.
FORMAT = "store-2"
# The last bytes of a table file that was written to its end.
# https://github.com/facebook/rocksdb/wiki/Rocksdb-BlockBasedTable-Format#footer
TABLE_END = 0x88E241B785F4CFF7.to_bytes(8, "little")
# A file that says: rebuild this store. It is left by whoever met the damage while the store was open.
DAMAGED = "damaged"
FEW_DELETIONS = 100  # beyond it one pass over all that lies between costs less

# What passes: the files are as they were, and rebuilding them would meet the same. (A "block" is no lock.)
_IS_OF_THE_MACHINE = re.compile(
    r"\block\b|no space left|quota exceeded|too many open files|permission denied|allocate memory",
    re.IGNORECASE,
)


class RocksStore:
    """`weir.runtime.ports.Store` on one RocksDB. Its write-ahead log is not synced: after a power cut

    it is an earlier whole state, and the changelog has the rest. A damaged block that a call meets is
    a fault of that call, and the next one to open the store rebuilds it.
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
        wanted = sorted(set(keys))  # neighbours are found together
        with self._noting_damage():
            found = self._db.get(wanted)
        return {key: value for key, value in zip(wanted, found, strict=True) if value is not None}

    def apply(self, changes: Changes, positions: StorePositions) -> None:
        """See the port. Deletions are dear: the files that held what goes are written again.

        Outdated entries are deleted in the same write. Their bytes go with a later compaction.
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
        """Their values are in no file on return: a deletion alone hides them, until some compaction.

        A key may stand on as the first or last of a file in the manifest, which the next start writes anew.
        """
        self._db.flush()  # with it goes the write-ahead log that held them
        if len(deleted) > FEW_DELETIONS:
            self._db.compact_range(min(deleted), max(deleted))
            return
        for key in deleted:
            self._db.compact_range(key, key)  # of the files that reach over it, no others

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
    """Yield all from a key on. An exception where a block is damaged: `items` ends there without a word."""
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
    """All that a store has on disk just now; whoever works with it is not disturbed."""
    options = Options(raw_mode=True)
    options.create_if_missing(False)
    db = Rdict(str(path), options, access_type=AccessType.read_only())
    try:
        yield from _entries(db)
    finally:
        db.close()


class DamagedError(Exception):
    """Opened, a store would lack what it had."""


def _whole_tables(path: Path) -> set[int]:
    """Numbers of the table files that were written to their end.

    A manifest that was cut short is an older whole one, and the write-ahead log goes over whatever
    tables it names: keys are gone then, and the position is not. The newest whole table tells it. Those that
    a crash has left, in the middle of a flush or a compaction, are not whole.
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
        """`kept_ms`: entries may go that long after their time, see `Sweeper`; 0: all stay."""
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
        # Never `AccessType.with_ttl`: what a batch writes has no time then, and a compaction takes the
        # last bytes of the values for one: it dropped nearly all of them once a store had been
        # opened a few times. See `store_expiry` for what forgets.
        tables = _whole_tables(path)
        db = Rdict(str(path), self._options(), access_type=AccessType.read_write())
        try:
            # what the recovery has just written of the log is newer than all
            known = tables & {_number(file["name"]) for file in db.live_files()}
            if lost := {number for number in tables if number > max(known, default=0)}:
                raise DamagedError(
                    f"tables {sorted(lost)} are whole, and its manifest names them not"
                )
            store = RocksStore(db, path, self._kept_ms)
            store.positions()  # a damaged one is found now, not in the middle of a batch
        except BaseException:
            db.close()  # with its lock, so that it can be made anew
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
