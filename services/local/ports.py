"""Loopback ports: which are free."""

import socket

from services.local.faults import LocalFaultError

LOOPBACK = "127.0.0.1"


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


def require_free(port: int, what: str, variable: str, host: str = LOOPBACK) -> None:
    """`LocalFaultError` if something listens on the port already."""
    if not is_free(port, host):
        raise LocalFaultError(
            f"Port {port}, meant for {what}, is in use: stop what listens there, "
            f"or set {variable} to another port."
        )
