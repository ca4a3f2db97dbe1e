"""Loopback ports: which are free, and which of them another `weir up` is about to use."""

import os
import socket
import tempfile
from pathlib import Path

from weir.embedded.errors import LocalFaultError
from weir.runtime.folder_lock import FolderInUseError, FolderLock

LOOPBACK = "127.0.0.1"
HIGHEST_PORT = 65_535


def free_port() -> int:
    """A port that nobody listens on at this moment; bind it soon."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on the port now; connections that linger do not count."""
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
    """`LocalFaultError` if something listens on the port already, or `holder` is about to."""
    if holder or not is_free(port, host):
        by = f" by {holder}" if holder else ""
        raise LocalFaultError(
            f"Port {port}, meant for {what}, is in use{by}: stop what listens there, "
            f"or set {variable} to another port."
        )


class PortClaims:
    """Ports that this process is going to use, and no other `weir up` of this user.

    A port that was free when it was looked at may be taken before the child that is meant to listen there
    has started. So whoever looks takes a lock first, and keeps it as long as it lives.
    """

    def __init__(self, note: str = "", folder: Path | None = None) -> None:
        """`note`: what others are told about this process, besides its number."""
        self._note = note
        self._folder = folder or Path(tempfile.gettempdir()) / f"weir-ports-{os.getuid()}"
        self._held: dict[int, FolderLock] = {}

    def holder(self, port: int) -> str:
        """Claim the port; "" on success, else who has claimed it before."""
        if port in self._held:
            return "another part of this Weir"
        try:
            self._held[port] = FolderLock(self._folder, f"{port}.lock", note=self._note)
        except FolderInUseError as fault:
            return f"another `weir up` (process {fault.holder})"
        except OSError:  # no room, or not ours to write: then ports are looked at, and no more
            return ""
        return ""

    def require(self, port: int, what: str, variable: str, host: str = LOOPBACK) -> None:
        """Claim the port, or raise `LocalFaultError` that names who has it where that is known."""
        require_free(port, what, variable, host, self.holder(port))

    def take(self, base: int, count: int, host: str = LOOPBACK) -> list[int]:
        """Claim so many free ports: the first ones from `base`, or any if it is 0."""
        ports: list[int] = []
        candidates = range(base, HIGHEST_PORT + 1) if base else iter(free_port, 0)
        for port in candidates:
            if len(ports) == count:
                return ports
            if is_free(port, host) and not self.holder(port):
                ports.append(port)
        raise LocalFaultError(
            f"No {count} free ports from {base} on: set WEIR_METRICS_BASE_PORT to a lower one, or 0."
        )

    def release(self) -> None:
        """Others may have them."""
        for lock in self._held.values():
            lock.release()
        self._held.clear()
