"""Whether the disk that holds Weir's data has room, in words."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
# With less, the broker and the engine cannot write what they need to start.
LEAST_BYTES = 64 * MIB


def free_bytes(folder: Path) -> int:
    """What this user may still write; nearly endless where nobody can tell."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 1 << 62


@dataclass(frozen=True)
class Disk:
    """The disk of a folder. `measure` is there for tests."""

    folder: Path
    least_bytes: int = LEAST_BYTES
    measure: Callable[[Path], int] = free_bytes

    def why_full(self) -> str:
        """Return a sentence where there is too little room to go on, else ""."""
        free = self.measure(self.folder)
        if free >= self.least_bytes:
            return ""
        return (
            f"the disk that holds {self.folder} is full ({free / MIB:,.0f} MiB left, "
            f"{self.least_bytes / MIB:,.0f} MiB needed)"
        )
