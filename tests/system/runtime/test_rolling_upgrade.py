"""An upgrade and its rollback lose no record while old and new processes share the groups.

`pytest -s` prints what each step came to.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uuid_utils

from tests.bench.stack import Member, Stack
from tests.support.books import settled_books
from tests.support.events import accepted
from tests.support.next_version import DEFAULT, FIELD, tree, write_migration
from tests.support.running import bare_environ, wait_until
from weir.adapters.avro_catalogue import Catalogue, Schema
from weir.adapters.clickhouse.query import ClickHouse
from weir.adapters.kafka.clients import write_entries
from weir.core import topics
from weir.core.identifiers import dedup_key
from weir.core.resource_paths import ROOT, SCHEMAS

PIPELINE = ("sink", "identity", "dedup")  # the order in which they are upgraded
EACH = 60  # events of each generation in a step
SESSION = "6"  # seconds, the least that the broker allows: a stopped instance's share is waited for
WAIT_SECONDS = 120


class Rolling(Stack):
    """A running Weir of which each process is of one of two versions."""

    def begin(self, new: Path) -> None:
        self.new = new
        self.members: dict[tuple[str, Path], Member] = {}
        self.number = 0
        self.expected: dict[str, int] = {}
        self.steps: list[str] = []
        self.generations = {
            DEFAULT: Catalogue(SCHEMAS).current["Accepted"],
            "spring": Catalogue(new / "schemas").current["Accepted"],
        }
        self.start_ready("warehouse")
        self.migrate()
        self.rows = ClickHouse(self.clickhouse)

    def up(self, root: Path, *services: str) -> None:
        """Ready on return; each version has an instance of its own."""
        self.root = root
        instance = "0" if root == ROOT else "1"
        for service in services:
            member = self.start(service, WEIR_INSTANCE=instance, WEIR_SESSION_SECONDS=SESSION)
            self.members[service, root] = member
        for service in services:
            self.wait_ready(self.members[service, root])

    def down(self, root: Path, *services: str) -> None:
        for service in services:
            member = self.members.pop((service, root))
            assert member.process.stop() == 0, member.process.said()

    def run(self, *arguments: str, root: Path = ROOT) -> "subprocess.CompletedProcess[str]":
        """A command of that version of `weir`."""
        environ = bare_environ(
            WEIR_DATA_DIR=str(self.folder),
            WEIR_KAFKA_BOOTSTRAP=self.broker.bootstrap,
            WEIR_CLICKHOUSE_PORT=str(self.clickhouse_port),
            PYTHONPATH=str(root / "services"),  # before the installed version
        )
        command = [sys.executable, "-m", "weir.cli.main", *arguments]
        return subprocess.run(
            command, cwd=root, env=environ, capture_output=True, text=True, check=False
        )

    def step(self, what: str, *campaigns: str) -> None:
        """Events of these generations are sent, and every one is a row with its field."""
        for campaign in campaigns:
            write_entries(self.kafka, topics.ACCEPTED, list(self._events(campaign)))
            self.expected[campaign] = self.expected.get(campaign, 0) + EACH
        wait_until(lambda: self.stored() == self.expected, WAIT_SECONDS, f"{what}: rows")
        running = sorted(
            f"{service} {'old' if root == ROOT else 'new'}" for service, root in self.members
        )
        self.steps.append(f"{what:24} {sum(self.expected.values()):5} {self.expected} {running}")

    def stored(self) -> dict[str, int]:
        known = f"{FIELD} AS campaign" if self._has_column() else f"'{DEFAULT}' AS campaign"
        sql = f"SELECT {known}, uniqExact(event_id) AS n FROM weir.events GROUP BY campaign"
        return {row["campaign"]: int(row["n"]) for row in self.rows.records(sql)}

    def _has_column(self) -> bool:
        sql = f"SELECT 1 AS n FROM system.columns WHERE table = 'events' AND name = '{FIELD}'"
        return bool(self.rows.records(sql))

    def _events(self, campaign: str) -> Iterator[tuple[bytes, bytes]]:
        generation: Schema = self.generations[campaign]
        now = int(time.time() * 1_000)
        for _ in range(EACH):
            self.number += 1
            event = accepted(
                self.number,
                event_id=uuid_utils.uuid7().bytes,
                idempotency_key=f"key-{self.number}",
                user_id=f"user-{self.number % 20}",
                received_at=now,
                occurred_at=now,
            )
            if FIELD in generation.fields:
                event[FIELD] = campaign
            key = dedup_key(event["source"], event["idempotency_key"])
            yield key, generation.encode(event)


@pytest.fixture
def rolling(tmp_path: Path) -> Iterator[Rolling]:
    with Rolling(tmp_path / "weir") as rolling:
        rolling.begin(tree(tmp_path / "next"))
        yield rolling


def test_old_and_new_versions_run_side_by_side_and_an_upgrade_can_be_rolled_back(
    rolling: Rolling,
) -> None:
    old, new = ROOT, rolling.new
    rolling.up(old, *PIPELINE, "rates")
    rolling.step("this version", DEFAULT)

    (view,) = rolling.rows.records(
        "SELECT as_select FROM system.tables WHERE name = 'landing_events_to_events'"
    )
    write_migration(new, view["as_select"])
    for command in (("topics", "apply"), ("migrate",)):
        done = rolling.run(*command, root=new)
        assert done.returncode == 0, done.stdout + done.stderr
    rolling.step("newer records come", DEFAULT, "spring")

    rolling.up(new, *PIPELINE)
    rolling.step("both, side by side", DEFAULT, "spring")
    for service in PIPELINE:
        rolling.down(old, service)
    rolling.step("upgraded", DEFAULT, "spring")

    rolling.up(old, *PIPELINE)
    rolling.down(new, *PIPELINE)
    rolling.step("taken back", DEFAULT, "spring")

    print("\n" + "\n".join(rolling.steps))
    (dead,) = rolling.rows.records("SELECT count() AS n FROM weir.dead FINAL")
    assert int(dead["n"]) == 0
    settled_books(rolling.run)
