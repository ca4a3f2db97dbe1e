"""A whole Weir for system tests: `weir up` on free ports, in a folder of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import analyst
from tests.support.books import settled_books
from tests.support.running import (
    RunningProcess,
    bare_environ,
    format_kafka,
    free_port,
    start_process,
    wait_until,
)
from weir.core.resource_paths import ROOT
from weir.registry.profile_id_salt import read_profile_ids
from weir.settings.environment import load
from weir.settings.shared import KafkaSettings

Row = tuple[Any, ...]

START_SECONDS = 120
STOP_SECONDS = 60
COMMAND_SECONDS = 1_200
SOURCES = Path(__file__).with_name("sources.yaml")
SOURCE_IDS = ("shop", "github", "faults", "limited", "marked", "mapped")
KEYS = {source: f"{source}-write-key" for source in SOURCE_IDS}


@dataclass(frozen=True)
class RunningWeir:
    """All of it: HTTP in at `gateway`, ClickHouse out at `clickhouse_port`."""

    process: RunningProcess
    gateway: str
    clickhouse_port: int
    environ: Mapping[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`weir ARGUMENTS` as somebody at this Weir's terminal would."""
        return subprocess.run(
            [sys.executable, "-m", "weir.cli.main", *arguments],
            cwd=ROOT,
            env=dict(self.environ),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )

    def ask(self, sql: str) -> list[Row]:
        return analyst.ask(self.clickhouse_port, sql)

    def minted(self, workspace: str, identity: str) -> str:
        """The profile id that this Weir mints for an identifier."""
        ids = read_profile_ids(load(KafkaSettings, self.environ))
        assert ids is not None
        return ids.mint(workspace, identity)

    def pid(self, service: str) -> int:
        """The process of a service's first instance, as it is now; 0: none runs."""
        children = json.loads((Path(self.environ["WEIR_DATA_DIR"]) / "up.json").read_text())
        return next((c["pid"] for c in children if c["name"] == service), 0)

    def require_balanced_books(self, *options: str) -> None:
        """Waits until nothing is in flight; every accepted event is accounted for on return."""
        settled_books(self.run, *options)

    def stop(self) -> int:
        return self.process.stop(STOP_SECONDS)


@contextmanager
def stopped(weir: RunningWeir, service: str) -> Iterator[None]:
    """A service's first instance stands still meanwhile, and goes on afterwards."""
    pid = weir.pid(service)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def meanwhile(task: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """The task runs in a thread, and has ended at the end, whatever fails meanwhile; so has what it asserts."""
    thread = threading.Thread(target=task, args=arguments)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def start_weir(folder: Path, log: Path | None = None, **settings: str) -> RunningWeir:
    """Everything is ready on return. `settings` are further `WEIR_*` variables."""
    ports = {name: free_port() for name in ("gateway", "clickhouse", "kafka")}
    environ = bare_environ(
        WEIR_DATA_DIR=str(folder),
        WEIR_METRICS_BASE_PORT="0",
        **{
            "WEIR_SOURCES_FILE": str(SOURCES),
            **{f"WEIR_{name.upper()}_PORT": str(port) for name, port in ports.items()},
            **settings,
        },
    )
    format_kafka(folder)
    process = start_process(
        [sys.executable, "-m", "weir.cli.main", "up"], log or folder / "up.log", environ
    )
    weir = RunningWeir(
        process, f"http://127.0.0.1:{ports['gateway']}", ports["clickhouse"], environ
    )
    try:
        wait_until(lambda: _is_up(process), START_SECONDS, "weir up")
    except BaseException:
        print(process.said())
        process.kill()
        raise
    return weir


def _is_up(process: RunningProcess) -> bool:
    if not process.running:
        raise RuntimeError(f"weir up ended at start:\n{process.said()}")
    return "Weir is up" in process.said()
