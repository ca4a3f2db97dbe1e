"""A whole Weir, each part a process of its own that a drill may do anything to."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from http.client import HTTPException
from pathlib import Path

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.bench.stack import Member, Stack
from tests.support import analyst
from tests.support.running import bare_environ, free_port, start_kafka, wait_until
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.clients import client_options
from weir.core.resource_paths import ROOT
from weir.core.stages import GROUPS, STAGES

WORKERS = tuple(stage.name for stage in STAGES)
SESSION_SECONDS = 6  # the least that the broker allows; drills wait for it often
READY_SECONDS = 60

LOOK_SECONDS = 0.5

# What the log of a worker, and of the sink, says when it begins anew.
ANEW = ("[warning  ] recovering", "reading again from the committed offsets")

Slot = tuple[str, int]  # service, instance


class World(Stack):
    """Everything runs and is ready on `begin`'s return; `heal` brings it back to that.

    What ends by itself is started again by `rest`, `ready` and `weir`, as a supervisor would: a worker
    whose broker died in the middle of a commit ends (docs/decisions/0005).
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.members: dict[Slot, Member] = {}
        self._settings: dict[Slot, dict[str, str]] = {}
        self.restarts = 0  # of what had ended without being told to
        self.gateway_port = free_port()
        self.callback(self._wake)  # what sleeps cannot end

    def begin(self, sources: dict[str, object]) -> None:
        self.up("warehouse")
        self.wait_ready(self.members["warehouse", 0])
        self.migrate()
        self.apply_sources(sources)
        self.heal()

    def up(self, name: str, instance: int = 0, **settings: str) -> Member:
        """Started on return, in the place of whatever was in the slot."""
        member = self.start(
            name,
            self.gateway_port if name == "gateway" else 0,
            WEIR_INSTANCE=str(instance),
            WEIR_SESSION_SECONDS=str(SESSION_SECONDS),
            **settings,
        )
        self.members[name, instance] = member
        self._settings[name, instance] = settings
        return member

    def kill(self, name: str, instance: int = 0) -> None:
        """kill -9; ended on return."""
        self.members.pop((name, instance)).process.kill()

    def stop(self, name: str, instance: int = 0) -> int:
        """SIGTERM; its exit code once it has ended."""
        return self.members.pop((name, instance)).process.stop()

    def signal(self, which: signal.Signals, name: str, instance: int = 0) -> None:
        os.kill(self.members[name, instance].pid, which)

    def kill_broker(self) -> None:
        """kill -9; ended on return."""
        self.broker.kill()

    def start_broker(self) -> None:
        """It answers, on return, where it did before."""
        self.broker = start_kafka(self.folder, self.broker.port)

    def revive(self) -> None:
        """What has ended without being told to is started again."""
        for (name, instance), member in list(self.members.items()):
            if not member.process.running:
                self.restarts += 1
                self.up(name, instance, **self._settings[name, instance])

    def rest(self, seconds: float) -> None:
        """Let it go on so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.revive()
            time.sleep(min(left, LOOK_SECONDS))

    def recoveries(self) -> int:
        """How often a worker or the sink began anew without ending, since the first start."""
        logs = [self.folder / "logs" / f"{name}.log" for name in WORKERS]
        said = "".join(log.read_text(errors="replace") for log in logs if log.exists())
        return sum(said.count(words) for words in ANEW)

    def state_of(self, name: str, instance: int = 0) -> Path:
        return self.folder / "state" / f"weir-{name}-{instance}"

    def ready(self, name: str, instance: int = 0) -> None:
        def is_ready() -> bool:
            self.revive()
            return self.members[name, instance].probe.ready()

        wait_until(is_ready, READY_SECONDS, f"{name} to be ready")

    @contextmanager
    def healed(self) -> Iterator[None]:
        """After it, whatever happened in it, all is as on `begin`'s return."""
        try:
            yield
        finally:
            self.heal()

    def heal_brokers(self) -> None:
        """All of them answer on return."""
        self.broker.process.send_signal(signal.SIGCONT)
        if not self.broker.running:
            self.start_broker()

    def heal(self) -> None:
        """One instance of each part runs, and is ready, on return."""
        self._wake()
        self.heal_brokers()
        for (name, instance), settings in list(self._settings.items()):
            if (name, instance) in self.members and (instance or settings):
                self.stop(name, instance)
        for name in ("warehouse", "gateway", *WORKERS):
            if (name, 0) not in self.members:
                self.up(name)
        for name, instance in list(self.members):
            self.ready(name, instance)

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        return analyst.ask(self.clickhouse_port, sql)

    def weir(self, arguments: Sequence[str], seconds: float) -> tuple[int, str]:
        """The exit code of a `weir` command on this Weir, and what it said."""
        environ = bare_environ(
            WEIR_DATA_DIR=str(self.folder),
            WEIR_KAFKA_BOOTSTRAP=self.bootstrap,
            WEIR_CLICKHOUSE_PORT=str(self.clickhouse_port),
        )
        command = [sys.executable, "-m", "weir.cli.main", *arguments]
        with (
            tempfile.TemporaryFile("w+") as said,
            subprocess.Popen(
                command, cwd=ROOT, env=environ, stdout=said, stderr=subprocess.STDOUT
            ) as process,
        ):
            deadline = time.monotonic() + seconds
            while process.poll() is None and time.monotonic() < deadline:
                self.rest(LOOK_SECONDS)
            process.kill()
            process.wait()
            said.seek(0)
            return process.returncode, said.read()

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient(client_options(self.kafka))

    def topics(self) -> set[str]:
        return set(self.admin.list_topics(timeout=READY_SECONDS).topics)

    def lag(self) -> int:
        """Records that some group has yet to read."""
        admin = KafkaAdmin(self.kafka)
        try:
            return sum(lag.records for lag in admin.lags(GROUPS))
        finally:
            admin.close()

    def configure(self, topic: str, options: Mapping[str, str]) -> None:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in options.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        (altered,) = self.admin.incremental_alter_configs([resource]).values()
        altered.result(30)

    def cleaned(self, topic: str) -> int:
        """How far the broker has compacted a topic, its partitions added up."""
        checkpoint = self.folder / "kafka" / "log" / "cleaner-offset-checkpoint"
        lines = checkpoint.read_text().splitlines()[2:] if checkpoint.exists() else []
        return sum(int(line.split()[2]) for line in lines if line.split()[0] == topic)

    def is_inserting(self) -> bool:
        return self._warehouse("weir_warehouse_running", lane="insert") > 0

    def refused_inserts(self) -> int:
        return int(self._warehouse("weir_warehouse_requests_total", kind="insert", outcome="error"))

    def forget_state(self, name: str, instance: int = 0) -> None:
        shutil.rmtree(self.state_of(name, instance), ignore_errors=True)

    def _warehouse(self, metric: str, **labels: str) -> float:
        """What it counts; 0: it does not say."""
        with suppress(OSError, HTTPException):
            return self.members["warehouse", 0].probe.total(metric, **labels)
        return 0.0

    def _wake(self) -> None:
        for member in self.members.values():
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGCONT)


Fault = Callable[[World, random.Random], None]
