"""Temporary stores on disk for the decisions that a rebuild repeats; deleted when it ends."""

import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from weir.adapters.rocksdb import RocksStores
from weir.backfill.redecide import NOWHERE
from weir.identity.erasure_markers import MARKERS_KEY, joined
from weir.identity.snapshot import people_changelog
from weir.runtime.folder_lock import FolderLock
from weir.runtime.ports import Store

CHUNK = 20_000
TERMINATED = 128 + signal.SIGTERM
SEEN, PEOPLE = "replay-seen", "replay-people"

ChangelogEntry = tuple[int, bytes, bytes | None]  # partition, key, value


class Scratch:
    """Temporary stores; `scratch` closes and deletes them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._seen = RocksStores(folder / SEEN)
        self._people = RocksStores(folder / PEOPLE)
        self._stack = stack

    @contextmanager
    def seen(self) -> Iterator[Store]:
        """Yield an empty store for dedup's state of one partition."""
        store = self._seen.discard(0)
        try:
            yield store
        finally:
            store.close()

    def people(self, profiles: Iterable[ChangelogEntry]) -> Store:
        """Return a store with the people and the erasure markers of the topic `profiles`."""
        store = self._people.discard(0)
        self._stack.callback(store.close)
        fill(store, profiles)
        return store


def fill(store: Store, profiles: Iterable[ChangelogEntry]) -> None:
    """Fill one store from all partitions. Each has its erasure markers under the same key, so they are joined."""
    changelog = people_changelog()
    changes: dict[bytes, bytes | None] = {}
    markers: dict[int, bytes] = {}
    for partition, key, value in profiles:
        if key == MARKERS_KEY:
            markers |= {partition: value} if value is not None else {}
            continue
        changes.update(changelog.decode(key, value))
        if len(changes) >= CHUNK:
            store.apply(changes, NOWHERE)
            changes.clear()
    if markers:
        changes[MARKERS_KEY] = joined(markers.values())
    store.apply(changes, NOWHERE)


@contextmanager
def scratch(data_dir: Path) -> Iterator[Scratch]:
    """Yield temporary stores beside the workers' state; delete them at the end, also on SIGTERM.

    `weir scan` searches that folder, so it finds what a killed replay leaves there until the next one starts. Only
    the owner may read the stores, because they hold people. `FolderInUseError` if another replay uses them.
    """
    folder = data_dir / "state"
    lock = FolderLock(folder, "replay.lock")
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        _remove(folder)
        for name in (SEEN, PEOPLE):
            (folder / name).mkdir(mode=0o700)
        with ExitStack() as stack:
            yield Scratch(folder, stack)
    finally:
        _remove(folder)
        signal.signal(signal.SIGTERM, before)
        lock.release()


def _remove(folder: Path) -> None:
    for name in (SEEN, PEOPLE):
        with suppress(FileNotFoundError):
            shutil.rmtree(folder / name)
