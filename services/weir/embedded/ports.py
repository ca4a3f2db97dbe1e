"""TCP ports of this machine: which are free, and which another `weir up` has claimed."""

import os
import socket
import tempfile
from pathlib import Path

from weir.embedded.errors import LocalFaultError
from weir.runtime.folder_lock import FolderInUseError, FolderLock

LOOPBACK = "127.0.0.1"
HIGHEST_PORT = 65_535


def free_port() -> int:
    """Return a loopback port that is free now. It is not reserved, so bind it soon."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Check whether a server could listen on the port now; lingering connections do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def require_free(
    port: int, what: str, variable: str, host: str = LOOPBACK, holder: str = ""
) -> None:
    """Raise `LocalFaultError` if something already listens on the port, or if `holder` has claimed it."""
    if holder or not is_free(port, host):
        by = f" by {holder}" if holder else ""
        raise LocalFaultError(
            f"Port {port}, meant for {what}, is in use{by}: stop what listens there, "
            f"or set {variable} to another port."
        )


class PortClaims:
    """Ports that this process has claimed, so that no other `weir up` of this user takes them.

    A port that was free when checked may be taken before the child that should listen on it has started.
    So a process also locks each port that it is going to use, until it ends or releases it.
    """

    def __init__(self, note: str = "", folder: Path | None = None) -> None:
        """`note`: what other processes are shown about this process, besides its process id."""
        self._note = note
        self._folder = folder or Path(tempfile.gettempdir()) / f"weir-ports-{os.getuid()}"
        self._held: dict[int, FolderLock] = {}

    def holder(self, port: int) -> str:
        """Claim the port. Return "" on success, else a text that names the holder of the claim."""
        if port in self._held:
            return "another part of this Weir"
        try:
            self._held[port] = FolderLock(self._folder, f"{port}.lock", note=self._note)
        except FolderInUseError as fault:
            return f"another `weir up` (process {fault.holder})"
        except OSError:  # disk full or not writable: ports are then only checked, not claimed
            return ""
        return ""

    def require(self, port: int, what: str, variable: str, host: str = LOOPBACK) -> None:
        """Claim the port, or raise `LocalFaultError`, which names the holder if it is known."""
        require_free(port, what, variable, host, self.holder(port))

    def take(self, base: int, count: int, host: str = LOOPBACK) -> list[int]:
        """Claim `count` free ports: the first from `base` on, or any if it is 0. `LocalFaultError` if too few."""
        ports: list[int] = []
        candidates = range(base, HIGHEST_PORT + 1) if base else iter(free_port, 0)
        for port in candidates:
            if len(ports) == count:
                return ports
            if is_free(port, host) and not self.holder(port):
                ports.append(port)
        raise LocalFaultError(
            f"No {count} free ports from {base} on: set WEIR_METRICS_BASE_PORT to a lower port, or 0."
        )

    def release(self) -> None:
        """Give up all claims."""
        for lock in self._held.values():
            lock.release()
        self._held.clear()
