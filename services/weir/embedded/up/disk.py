"""Checks whether the disk that holds Weir's data has room."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
# With less room, the broker and the engine cannot write what they need to start.
LEAST_BYTES = 64 * MIB


def free_bytes(folder: Path) -> int:
    """Return how many bytes this user can still write; a huge number if that is unknown."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 1 << 62


@dataclass(frozen=True)
class Disk:
    """The disk of a folder. Tests replace `measure`."""

    folder: Path
    least_bytes: int = LEAST_BYTES
    measure: Callable[[Path], int] = free_bytes

    def why_full(self) -> str:
        """Return a sentence if there is too little room to continue, else ""."""
        free = self.measure(self.folder)
        if free >= self.least_bytes:
            return ""
        return (
            f"the disk that holds {self.folder} is full ({free / MIB:,.0f} MiB left, "
            f"{self.least_bytes / MIB:,.0f} MiB needed)"
        )
