"""A rebuild's stores on disk start empty, are private, and are deleted however the rebuild ends."""

import os
import signal
from pathlib import Path

import pytest

from tests.support import records as rows
from weir.adapters.rocksdb import read_entries
from weir.backfill.redecide import NOWHERE
from weir.backfill.scratch import PEOPLE, SEEN, TERMINATED, scratch
from weir.core.batch import Changes
from weir.runtime.folder_lock import FolderInUseError

ADA = b"acme\0u:ada"
CHANGES: Changes = {b"key": b"value"}


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "state").glob("replay-*"))


def test_scratch_stores_are_empty_for_each_partition_and_deleted_at_the_end(tmp_path: Path) -> None:
    with scratch(tmp_path) as made:
        for _ in range(2):
            with made.seen() as seen:
                assert seen.load([b"key"]) == {}
                seen.apply(CHANGES, NOWHERE)
                assert seen.load([b"key"]) == CHANGES
        value = rows.profile("u:ada", "p1")
        assert made.people([(0, ADA, value)]).load([ADA]) == {ADA: value}
        assert left(tmp_path) == [PEOPLE, SEEN]
        for name in (PEOPLE, SEEN):
            assert (tmp_path / "state" / name).stat().st_mode & 0o777 == 0o700
        # as `weir scan` finds them
        (path,) = (tmp_path / "state").glob(f"{PEOPLE}/store-*")
        assert dict(read_entries(path))[ADA] == value
    assert left(tmp_path) == []


def test_sigterm_deletes_the_scratch_stores(tmp_path: Path) -> None:
    def work() -> None:
        with scratch(tmp_path) as made, made.seen() as seen:
            seen.apply(CHANGES, NOWHERE)
            os.kill(os.getpid(), signal.SIGTERM)
            seen.load([b"key"])

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        work()
    assert ended.value.code == TERMINATED
    assert left(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_files_of_a_killed_process_are_deleted_at_start(tmp_path: Path) -> None:
    (tmp_path / "state" / PEOPLE / "store-2-0").mkdir(parents=True)
    (tmp_path / "state" / PEOPLE / "store-2-0" / "somebody").touch()
    with scratch(tmp_path):
        assert list((tmp_path / "state" / PEOPLE).iterdir()) == []
    assert left(tmp_path) == []


def test_a_second_rebuild_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with scratch(tmp_path), pytest.raises(FolderInUseError), scratch(tmp_path):
        pass
    assert left(tmp_path) == []
