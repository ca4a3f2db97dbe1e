"""Restore the stores of gained partitions from the changelog: concurrently, one piece at a time.

The worker polls its group between two pieces, so that it keeps its membership even if a restore takes
hours, and continues to process partitions whose store is complete.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from weir.runtime import metrics
from weir.runtime.ports import Changelog, ChangelogReader, Store, StorePositions, Stores, Stream

NOT_YET = -1  # input position of a store whose restore is not finished, in case of a crash


@dataclass
class _Restore:
    """One partition's store during its restore. `at`: the next changelog offset."""

    store: Store
    committed: int
    at: int


class Restoring:
    """The partitions that are being restored. Methods raise `StreamBrokenError` of the stream; then `close` it."""

    def __init__(self, name: str, stream: Stream, stores: Stores, changelog: Changelog) -> None:
        self._name = name
        self._stream = stream
        self._stores = stores
        self._changelog = changelog
        self._restores: dict[int, _Restore] = {}
        self._reader: ChangelogReader | None = None
        self._done = 0  # changelog records replayed since the restore began
        self._left = 0

    def __bool__(self) -> bool:
        """Check whether any partition is being restored."""
        return bool(self._restores)

    @property
    def progress(self) -> str:
        """The progress, in one sentence."""
        return (
            f"restoring {len(self._restores)} partitions from {self._changelog.topic}:"
            f" {self._done:,} records done, {self._left:,} to do"
        )

    def begin(self, gained: Mapping[int, int | None]) -> None:
        """Open the stores of gained partitions and find out what they lack.

        `gained`: the group's committed input position of each partition.
        """
        if not gained:
            return
        for partition, committed in gained.items():
            self._restores[partition] = self._opened(partition, committed)
        self._read_anew()

    def advance(self, seconds: float) -> dict[int, Store]:
        """Replay what can be read within about `seconds`; return the stores that are now complete, by partition."""
        if self._reader is None:
            return {}
        self._apply(self._reader, seconds)
        lacking = self._reader.remaining()
        whole = {}
        for partition in self._restores.keys() - lacking.keys():
            restore = self._restores.pop(partition)
            restore.store.apply({}, StorePositions(restore.committed, restore.at))
            whole[partition] = restore.store
        self._left = sum(lacking.values())
        self._report()
        if not self._restores:
            self._end()
        return whole

    def drop(self, lost: Collection[int]) -> None:
        """Stop restoring partitions that another member owns now."""
        dropped = self._restores.keys() & set(lost)
        for partition in dropped:
            self._restores.pop(partition).store.close()
        if dropped:
            self._read_anew()

    def close(self) -> None:
        """Stop all restores. What was replayed stays in the stores and is not replayed again."""
        for restore in self._restores.values():
            restore.store.close()
        self._restores.clear()
        self._end()

    def _opened(self, partition: int, committed: int | None) -> _Restore:
        store = self._stores.open(partition)
        held = store.positions()
        if held is not None and (committed is None or held.input > committed):
            store.close()  # the group's offsets were reset: only the changelog can be trusted
            store, held = self._stores.discard(partition), None
        return _Restore(store, committed or 0, held.changelog if held else 0)

    def _read_anew(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        lacking = {}
        for partition, restore in self._restores.items():
            held = restore.store.positions()
            if held is None or held.input != restore.committed:
                lacking[partition] = restore.at
        if self._restores:
            self._reader = self._stream.changelog(self._changelog.topic, lacking)

    def _apply(self, reader: ChangelogReader, seconds: float) -> None:
        changes: dict[int, dict[bytes, bytes | None]] = {}
        for partition, offset, key, value in reader.poll(seconds):
            changes.setdefault(partition, {}).update(self._changelog.decode(key, value))
            self._restores[partition].at = offset + 1
            self._done += 1
        for partition, changed in changes.items():
            restore = self._restores[partition]
            metrics.RESTORED.labels(self._name).inc(len(changed))
            restore.store.apply(changed, StorePositions(NOT_YET, restore.at))

    def _report(self) -> None:
        metrics.RESTORING.labels(self._name).set(len(self._restores))
        metrics.RESTORE_DONE.labels(self._name).set(self._done)
        metrics.RESTORE_LEFT.labels(self._name).set(self._left)

    def _end(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._done = self._left = 0
        self._report()
