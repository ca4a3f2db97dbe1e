"""A folder has one owner: a lock that no killed process can leave behind."""

import fcntl
import os
from pathlib import Path

from services.local.faults import LocalFaultError


class FolderLock:
    """Held from construction until `release()` or the end of every process that inherited it."""

    def __init__(self, folder: Path, name: str, *, inherit: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise LocalFaultError(
                f"{folder} is in use by process {holder}: stop that one, "
                "or set WEIR_DATA_DIR to another folder."
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        os.set_inheritable(self._file, inherit)

    def release(self) -> None:
        os.close(self._file)
