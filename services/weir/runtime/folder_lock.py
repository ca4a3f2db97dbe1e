"""An exclusive lock on a folder. The kernel releases it when the process dies."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path


class FolderInUseError(Exception):
    """Another process uses the folder; the text is one sentence that says what to do."""

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(
            f"{folder} is in use by process {holder}: stop that one, "
            "or set WEIR_DATA_DIR to another folder."
        )
        self.holder = holder


class FolderLock:
    """A lock, held from construction until `release()` or until every process that inherited it has ended."""

    def __init__(self, folder: Path, name: str, *, inherit: bool = False, note: str = "") -> None:
        """`note`: what other processes are shown about this process, after its process id."""
        folder.mkdir(parents=True, exist_ok=True)
        # 0o600: no other user may hold the lock. The kernel releases it when the process ends.
        self._file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 4_096).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise FolderInUseError(folder, holder) from None
        with suppress(OSError):  # on a full disk the lock holds without its holder's name
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()} {note}".strip().encode() + b"\n", 0)
        os.set_inheritable(self._file, inherit)

    def release(self) -> None:
        os.close(self._file)
