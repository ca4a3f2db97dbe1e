"""Real processes for tests: started on free ports, logged to a file, ended by their own process group."""

import asyncio
import atexit
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from weir.core.resource_paths import ROOT
from weir.embedded.kafka.broker import Broker
from weir.embedded.kafka.kafka_download import resolve_jars
from weir.embedded.kafka.toolchain import find_java
from weir.embedded.ports import LOOPBACK, free_port

__all__ = [
    "RunningKafka",
    "RunningProcess",
    "bare_environ",
    "ending_well",
    "format_kafka",
    "free_port",
    "free_ports",
    "start_kafka",
    "start_process",
    "wait_for_broker",
    "wait_until",
]

START_SECONDS = 60.0
STOP_SECONDS = 120.0


# A busy machine needs longer than the idle one that the tests' figures are of: a wait ends with its
# condition, so patience costs time only where a test fails.
PATIENCE = 5.0


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Return as soon as the condition holds; `TimeoutError` naming `what` long after `seconds`."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        asked = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        if now > deadline:
            raise TimeoutError(f"waited {seconds * PATIENCE:g} s for {what}")
        # what is waited for needs the machine, too: a check that takes long is made less often
        time.sleep(min(max(0.02, 4 * (now - asked)), 1))


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on at this moment; bind them soon."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def bare_environ(**settings: str) -> dict[str, str]:
    """The environment without the `WEIR_*` settings it came with, and with those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return kept | settings


@dataclass
class RunningProcess:
    """A process in a group of its own; what it says is in `log`."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM; the exit code once it has ended. `kill` and `TimeoutExpired` if it does not."""
        if self.running:
            self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """kill -9 of the whole group; ended on return."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)


def start_process(
    arguments: Sequence[str],
    log: Path,
    environ: Mapping[str, str] | None = None,
    root: Path = ROOT,
) -> RunningProcess:
    """Started on return. `environ` replaces the environment (see `bare_environ`); `root`: of the code."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environ = dict(environ) if environ is not None else bare_environ()
    if root != ROOT:  # its code goes before the installed one
        environ["PYTHONPATH"] = str(root / "services")
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(arguments),
            cwd=root,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return RunningProcess(process, log)


@contextmanager
def ending_well(process: RunningProcess) -> Iterator[None]:
    """Stopped at the end, which must be a clean one; killed if something fails before."""
    try:
        yield
        assert process.stop() == 0, process.said()
    finally:
        process.kill()


@dataclass
class RunningKafka(RunningProcess):
    """A broker that answers; its folder outlives it."""

    bootstrap: str

    @property
    def port(self) -> int:
        return int(self.bootstrap.rpartition(":")[2])


@functools.cache
def _formatted_log() -> Path:
    """A log folder as a broker's start formats it, to be copied: each format would take a JVM of its own."""
    folder = Path(tempfile.mkdtemp(prefix="weir-formatted-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    broker = Broker(find_java(), asyncio.run(resolve_jars()), folder, free_port(), free_port(), 128)
    broker.write_properties()
    broker.format()
    return folder / "log"


def format_kafka(data: Path) -> None:
    """The embedded broker of this data folder finds its log formatted, if it has none yet."""
    if not (log := data / "kafka" / "log").exists():
        shutil.copytree(_formatted_log(), log)


def start_kafka(folder: Path, port: int | None = None) -> RunningKafka:
    """A broker that answers, on return. Its records are in `folder`: start again and they are there."""
    port = port or free_port()
    format_kafka(folder)
    environ = bare_environ(WEIR_DATA_DIR=str(folder), WEIR_KAFKA_PORT=str(port))
    started = start_process(
        [sys.executable, "-m", "weir.embedded.kafka.__main__"], folder / "kafka.log", environ
    )
    kafka = RunningKafka(started.process, started.log, f"127.0.0.1:{port}")
    try:
        wait_for_broker(kafka, kafka.bootstrap)
    except BaseException:
        kafka.kill()
        raise
    return kafka


def empty_broker(bootstrap: str) -> None:
    """No topic of anybody's and no group without members are left on return."""
    admin = AdminClient({"bootstrap.servers": bootstrap})

    def names() -> list[str]:
        return [name for name in admin.list_topics(timeout=10).topics if not name.startswith("__")]

    if found := names():
        for deleted in admin.delete_topics(found).values():
            deleted.result()
        wait_until(lambda: not names(), START_SECONDS, "the topics to be gone")
    groups = [group.group_id for group in admin.list_consumer_groups().result().valid]
    for gone in admin.delete_consumer_groups(groups).values() if groups else ():
        # a group whose last member was killed stays for a while: its next member takes that one's place
        with suppress(KafkaException):
            gone.result()


def wait_for_broker(kafka: RunningProcess, bootstrap: str) -> None:
    """It answers there on return."""
    options = {"bootstrap.servers": bootstrap, "log_level": 0}
    admin = AdminClient(options | {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 100})

    def answers() -> bool:
        if not kafka.running:
            raise RuntimeError(f"the broker ended at start:\n{kafka.said()}")
        try:
            return bool(admin.list_topics(timeout=1).brokers)
        except KafkaException:
            return False

    wait_until(answers, START_SECONDS, "the broker")
