"""A whole Weir, each part a process of its own that a drill may do anything to."""

import os
import shutil
import signal
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import clickhouse_connect
from confluent_kafka.admin import AdminClient

from services.core.groups import GROUPS
from services.edge.kafka import client_options
from services.edge.kafka_admin import KafkaAdmin
from tests.bench.stack import Member, Stack
from tests.running import bare_environ, free_port, start_kafka, wait_until

WORKERS = ("dedup", "identity", "rates", "sink")
SESSION_SECONDS = 6  # the least that the broker allows; drills wait for it often
READY_SECONDS = 60

Slot = tuple[str, int]  # service, instance


class World(Stack):
    """Everything runs and is ready on `begin`'s return; `heal` brings it back to that."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.members: dict[Slot, Member] = {}
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
        return member

    def kill(self, name: str, instance: int = 0) -> None:
        """kill -9; ended on return."""
        self.members[name, instance].process.kill()

    def stop(self, name: str, instance: int = 0) -> int:
        """SIGTERM; its exit code once it has ended."""
        return self.members.pop((name, instance)).process.stop()

    def signal(self, which: signal.Signals, name: str, instance: int = 0) -> None:
        os.kill(self.members[name, instance].pid, which)

    def kill_broker(self) -> None:
        self.broker.kill()
        self.broker = start_kafka(self.folder, self.broker.port)

    def state_of(self, name: str, instance: int = 0) -> Path:
        return self.folder / "state" / f"weir-{name}-{instance}"

    def ready(self, name: str, instance: int = 0) -> None:
        wait_until(self.members[name, instance].probe.ready, READY_SECONDS, f"{name} to be ready")

    def heal(self) -> None:
        """One instance of each part runs, and is ready, on return."""
        self._wake()
        for name, instance in [slot for slot in self.members if slot[1]]:
            self.stop(name, instance)
        for name in ("warehouse", "gateway", *WORKERS):
            member = self.members.get((name, 0))
            if member is None or not member.process.running:
                self.up(name)
        for name, instance in self.members:
            self.ready(name, instance)

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """Rows, by way of the client that analysts use."""
        client = clickhouse_connect.get_client(host="127.0.0.1", port=self.clickhouse_port)
        try:
            return [tuple(row) for row in client.query(sql).result_rows]
        finally:
            client.close()

    def environ(self) -> dict[str, str]:
        """For `weir` commands on this Weir."""
        return bare_environ(
            WEIR_DATA_DIR=str(self.folder),
            WEIR_KAFKA_BOOTSTRAP=self.broker.bootstrap,
            WEIR_CLICKHOUSE_PORT=str(self.clickhouse_port),
        )

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

    def forget_state(self, name: str, instance: int = 0) -> None:
        shutil.rmtree(self.state_of(name, instance), ignore_errors=True)

    def _wake(self) -> None:
        for member in self.members.values():
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGCONT)
        with suppress(ProcessLookupError):
            os.kill(self.broker.pid, signal.SIGCONT)
