"""A folder has one owner: a lock that no killed process can leave behind."""

import fcntl
import os
from pathlib import Path


class FolderInUseError(Exception):
    """Another process has the folder; the text is one sentence that says what to do."""


class FolderLock:
    """Held from construction until `release()` or the end of every process that inherited it."""

    def __init__(self, folder: Path, name: str, *, inherit: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # 0o600: the file is nobody else's to hold. The kernel drops the lock with the process.
        self._file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise FolderInUseError(
                f"{folder} is in use by process {holder}: stop that one, "
                "or set WEIR_DATA_DIR to another folder."
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        os.set_inheritable(self._file, inherit)

    def release(self) -> None:
        os.close(self._file)
