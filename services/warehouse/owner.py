"""One process owns a data folder: a lock that a killed process cannot leave behind."""

import fcntl
import os
from pathlib import Path


class AlreadyOwned(Exception):  # noqa: N818  # a state of the world that the operator is told of
    """Another process has the folder open."""


class Owner:
    """Holds the folder from construction until `release()` or the end of the process."""

    def __init__(self, lock: Path) -> None:
        # 0o600: the file is nobody else's to hold. The kernel drops the lock with the process.
        self._file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise AlreadyOwned(
                f"{lock.parent} is already open in process {holder}: one process owns a data "
                "folder. Stop that one, or set WEIR_DATA_DIR to another folder."
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._file)
