"""A disk that can be full."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType


class CannotMountError(Exception):
    """This user may not mount anything."""


class SmallDisk:
    """From `with` on, what is in the folder is on a disk with `megabytes` left, and then where it was.

    Nobody may have a file of it open when it begins or ends. `CannotMountError`: nothing was done.
    """

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._megabytes = megabytes
        self._aside = folder.with_name(f"{folder.name}.aside")
        self._filler = folder / "filler"

    def __enter__(self) -> "SmallDisk":
        size = _used_megabytes(self.folder) + self._megabytes
        self.folder.rename(self._aside)
        self.folder.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size}m", "weir-drill"]
        done = subprocess.run(["mount", *options, str(self.folder)], capture_output=True, text=True)
        if done.returncode:
            self.folder.rmdir()
            self._aside.rename(self.folder)
            raise CannotMountError(done.stderr.strip())
        try:
            _copy(self._aside, self.folder)
        except BaseException:
            self._unmount()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.free()
        subprocess.run(["rm", "-rf", str(self._aside)], check=True)
        self._aside.mkdir()
        _copy(self.folder, self._aside)
        self._unmount()

    def _unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)
        self.folder.rmdir()
        self._aside.rename(self.folder)

    def fill(self) -> None:
        """No byte is left on return; others may have taken the last ones."""
        with self._filler.open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(1 << 16))

    def free(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._filler)


def _used_megabytes(folder: Path) -> int:
    """On a disk, holes in files left out; and something for the disk's own use."""
    used = sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
    return int(used * 1.1) // (1 << 20) + 1


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--sparse=always", f"{source}/.", str(target)], check=True)
