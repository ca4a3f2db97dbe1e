"""What is done to a cluster of three brokers: one killed, two killed, each restarted in turn."""

import http.client
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.drill.world import World
from tests.support.cluster import NODES, RunningCluster
from tests.support.running import wait_until
from weir.adapters.errors import RefusedError, UnavailableError
from weir.adapters.kafka.schema_announcements import SchemasNotReadError
from weir.cli.topics import TOPICS_FILE, apply_topics

PROBE = "drill-probe"
PROBE_SECONDS = 30.0
# Until the others take a killed broker's partitions over: `broker.session.timeout.ms`.
TAKEN_OVER_SECONDS = 9.0
UNAVAILABLE = 503


class ClusterWorld(World):
    """A whole Weir on three brokers, with topics as in production, or with fewer partitions each."""

    def __init__(self, folder: Path, partitions: int = 0) -> None:
        """`partitions`: of each topic that has as many as the profile says; 0: as it says."""
        self._partitions = partitions
        super().__init__(folder)

    def start_brokers(self) -> str:
        self.cluster = RunningCluster(self.folder)
        self.callback(self.cluster.kill, *NODES)
        return self.cluster.bootstrap

    def apply_topics(self) -> None:
        """Brokers that are just making some 2,000 replicas may be too slow for it: it is safe to repeat."""

        file = TOPICS_FILE
        if self._partitions:
            declared = yaml.safe_load(TOPICS_FILE.read_text())
            declared["profiles"]["production"]["partitions"] = self._partitions
            file = self.folder / "topics.yaml"
            file.write_text(yaml.safe_dump(declared))

        def is_applied() -> bool:
            try:
                apply_topics(self.kafka, "production", file)
            except (SchemasNotReadError, UnavailableError, RefusedError):
                return False
            return True

        wait_until(is_applied, 60, "the topics")
        self.cluster.wait_for_all()

    def heal_brokers(self) -> None:
        self.cluster.revive()
        self.cluster.wait_for_all()

    def begin(self, sources: dict[str, object]) -> None:
        probe = {"workspace": PROBE, "write_keys": [PROBE]}
        super().begin({PROBE: probe, **sources})

    def probe(self) -> int:
        """Send one event of a source of its own; the status of the answer."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.gateway_port, timeout=PROBE_SECONDS
        )
        try:
            headers = {"Authorization": f"Bearer {PROBE}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/events", json.dumps({"event": "probe"}), headers)
            return connection.getresponse().status
        finally:
            connection.close()


ClusterFault = Callable[[ClusterWorld, random.Random], None]


def one_killed(world: ClusterWorld, chance: random.Random) -> None:
    """kill -9; the others go on, and it comes back later."""
    world.rest(chance.uniform(1, 3))
    node = chance.choice(NODES)
    world.cluster.kill(node)
    wait_until(lambda: world.probe() == 202, 60, "two brokers to accept events")
    world.rest(TAKEN_OVER_SECONDS + chance.uniform(0, 5))
    world.cluster.start(node)
    world.cluster.wait_for_all()
    world.rest(3)


def two_killed(world: ClusterWorld, chance: random.Random) -> None:
    """kill -9 of both at once: one broker is no majority, so nothing may be called accepted."""
    world.rest(chance.uniform(1, 3))
    pair = chance.sample(NODES, 2)
    world.cluster.kill(*pair)
    answers = Counter(world.probe() for _ in range(3))
    world.rest(chance.uniform(0, TAKEN_OVER_SECONDS))
    answers[world.probe()] += 1
    world.cluster.start(*pair)
    if answers.keys() != {UNAVAILABLE}:
        raise AssertionError(f"with one broker of three the gateway answered {dict(answers)}")
    world.cluster.wait_for_all()
    wait_until(lambda: world.probe() == 202, 60, "three brokers to accept events")
    world.rest(3)


def rolling_restart(world: ClusterWorld, chance: random.Random) -> None:
    """Each in turn, as an operator would: the next when all replicas are whole again."""
    for node in NODES:
        world.rest(chance.uniform(1, 2))
        world.cluster.stop(node)
        world.cluster.start(node)
        world.cluster.wait_for_all()
    world.rest(3)


def each_in_turn(world: ClusterWorld, chance: random.Random) -> None:
    """All of the above, judged once: for the short cut."""
    one_killed(world, chance)
    two_killed(world, chance)
    rolling_restart(world, chance)
