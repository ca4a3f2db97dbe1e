"""Start and stop a real `python -m weir.embedded.clickhouse` for tests of anything that needs one."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 60
_STOP_SECONDS = 60


@dataclass
class RunningWarehouse:
    """A warehouse process; its folder outlives it."""

    url: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> int:
        """SIGTERM, and the exit code once it has ended."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(_STOP_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def warehouse_environ(folder: Path, port: int) -> dict[str, str]:
    """The environment without any WEIR_ setting but the folder and the port."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return environ | {
        "WEIR_DATA_DIR": str(folder),
        "WEIR_CLICKHOUSE_PORT": str(port),
        "WEIR_LOG_FORMAT": "json",
    }


def start_warehouse(
    folder: Path, port: int | None = None, settings: Mapping[str, str] | None = None
) -> RunningWarehouse:
    """Running and answering on return. Data is kept in `folder`; `settings` are `WEIR_*`."""
    port = port or free_port()
    log = folder / "warehouse.log"
    folder.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "weir.embedded.clickhouse"],
            env=warehouse_environ(folder, port) | dict(settings or {}),
            cwd=Path(__file__).parents[2],
            stdout=stderr,
            stderr=stderr,
        )
    running = RunningWarehouse(f"http://127.0.0.1:{port}", port, process, log)
    try:
        _wait_for_ping(running)
    except BaseException:
        running.kill()
        raise
    return running


def _wait_for_ping(running: RunningWarehouse) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            raise RuntimeError(f"the warehouse ended at start:\n{running.log.read_text()}")
        try:
            with urllib.request.urlopen(f"{running.url}/ping", timeout=2) as response:
                if response.read() == b"Ok.\n":
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise TimeoutError(f"the warehouse does not answer:\n{running.log.read_text()}")
