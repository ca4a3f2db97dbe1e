"""The real processes that a measurement is of, on free ports and in a folder of their own."""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.bench import input
from tests.bench.measure import Probe
from tests.support.running import (
    RunningProcess,
    bare_environ,
    free_port,
    start_kafka,
    start_process,
    wait_until,
)
from weir.cli.migrate import migrate
from weir.cli.topics import apply_topics
from weir.core.resource_paths import ROOT
from weir.core.service_modules import SERVICE_MODULES
from weir.registry.secret_encryption import SecretEncryption, new_key
from weir.registry.source_changes import apply_sources
from weir.settings.shared import ClickHouseSettings, KafkaSettings, MigrationSettings

READY_SECONDS = 60.0


@dataclass
class Member:
    """One running process of the stack, and where it tells about itself."""

    name: str
    process: RunningProcess
    probe: Probe

    @property
    def pid(self) -> int:
        return self.process.pid


class Stack(ExitStack):
    """A broker with Weir's topics; further processes as asked for. All ended, last first, on exit."""

    profile = "local"  # of deploy/topics.yaml

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.root = ROOT  # of the code that is started from now on
        self.secrets_key = new_key()
        self.pids: dict[str, int] = {}
        self.clickhouse_port = free_port()
        self.bootstrap = self.start_brokers()
        try:
            self.apply_topics()
        except BaseException:
            self.close()
            raise

    def apply_topics(self) -> None:
        """The brokers have Weir's topics on return."""
        apply_topics(self.kafka, self.profile)

    def start_brokers(self) -> str:
        """Return the address at which they answer. They end on exit."""
        self.broker = start_kafka(self.folder)
        self.callback(lambda: self.broker.stop())  # whichever it is by then
        self.pids["kafka"] = self.broker.pid
        return self.broker.bootstrap

    @property
    def kafka(self) -> KafkaSettings:
        return KafkaSettings(kafka_bootstrap=self.bootstrap)

    @property
    def clickhouse(self) -> ClickHouseSettings:
        return ClickHouseSettings(clickhouse_port=self.clickhouse_port)

    def start(self, name: str, port: int = 0, **settings: str) -> Member:
        """Started on return; see `wait_ready`. `port`: where it serves; 0: a free one."""
        port = self.clickhouse_port if name == "warehouse" else port or free_port()
        probe = Probe(port, "/ping" if name == "warehouse" else "/readyz")
        member = Member(name, self._run(name, port, settings), probe)
        self.callback(self.end, member)
        self.pids[name] = member.pid
        return member

    def end(self, member: Member) -> None:
        """Ended on return, in its own way: SIGTERM. Safe to repeat."""
        self.pids.pop(member.name, None)
        member.process.stop()

    def start_ready(self, name: str, **settings: str) -> Member:
        member = self.start(name, 0, **settings)
        self.wait_ready(member)
        return member

    def wait_ready(self, member: Member) -> None:
        """Ready on return; `RuntimeError` with its last lines if it ended instead."""

        def ready() -> bool:
            if not member.process.running:
                raise RuntimeError(f"{member.name} ended:\n{member.process.said()[-2_000:]}")
            return member.probe.ready()

        wait_until(ready, READY_SECONDS, f"{member.name} to be ready")

    def migrate(self) -> None:
        """The warehouse has Weir's tables on return."""
        migrate(self.clickhouse, MigrationSettings())

    def apply_sources(self, sources: Mapping[str, object] | None = None) -> None:
        """The registry holds these sources on return; the bench's input's by default."""
        path = self.folder / "sources.yaml"
        path.write_text(yaml.safe_dump({"sources": dict(sources or input.registry())}))
        apply_sources(self.kafka, path, SecretEncryption((self.secrets_key,)))

    def _run(self, name: str, port: int, settings: dict[str, str]) -> RunningProcess:
        own = {
            "gateway": "WEIR_GATEWAY_PORT",
            "warehouse": "WEIR_CLICKHOUSE_PORT",
        }
        environ = {
            "WEIR_DATA_DIR": str(self.folder),
            "WEIR_KAFKA_BOOTSTRAP": self.bootstrap,
            "WEIR_SECRETS_KEY": self.secrets_key,
            "WEIR_CLICKHOUSE_PORT": str(self.clickhouse_port),
            own.get(name, "WEIR_METRICS_PORT"): str(port),
            **settings,
        }
        log = self.folder / "logs" / f"{name}.log"
        return start_process(
            [sys.executable, "-m", SERVICE_MODULES[name]], log, bare_environ(**environ), self.root
        )
