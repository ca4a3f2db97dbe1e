"""Nothing acknowledged is lost or doubled when brokers of three die: the short run of the drills."""

import json
import time
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec
from rich.console import Console

from tests.drill.__main__ import drill_all
from tests.drill.cluster import ClusterWorld
from tests.drill.drills import CLUSTER_DRILLS
from tests.drill.world import WORKERS
from tests.support.cluster import NODES
from weir.adapters.kafka.clients import admin_client, client_options
from weir.adapters.kafka.record_limits import ALL_TOPICS
from weir.runtime.recovery_limit import LIMIT

PARTITIONS = 6
WAIT_SECONDS = 3.0


@pytest.mark.timeout(1_200)
def test_no_event_is_lost_or_doubled_when_brokers_die_and_restart_under_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    short = [drill for drill in CLUSTER_DRILLS if drill.short]
    # `make drill` has the 48 of production; here other tests need the machine, too
    with ClusterWorld(tmp_path, PARTITIONS) as world:
        verdicts = drill_all(world, short, True, seed, Console(highlight=False))
        connects = connects_while_brokers_are_dead(world)
    said = f"--seed {seed}\n{capsys.readouterr().out}"
    assert len(verdicts) == len(short)
    assert not [v.faults for v in verdicts if v.faults], said
    assert all(verdict.sent.distinct for verdict in verdicts)
    # a pause before each attempt, where there were a thousand a second
    assert 0 < connects < 30 * WAIT_SECONDS, said
    # no storm: what began anew went on before it was given up
    assert all(verdict.recoveries < LIMIT * len(WORKERS) for verdict in verdicts), said


def connects_while_brokers_are_dead(world: ClusterWorld) -> int:
    """How often an administration client connects to one broker while it waits for what two dead brokers lead."""
    statistics: list[dict[str, dict[str, dict[str, int]]]] = []
    options = {
        "statistics.interval.ms": 200,
        "stats_cb": lambda s: statistics.append(json.loads(s)),
    }
    admin = admin_client({**client_options(world.kafka), "log_level": 0, **options})
    admin.list_topics(timeout=30)
    world.cluster.kill(*NODES[:2])
    places = [TopicPartition(name, part) for name in ALL_TOPICS for part in range(PARTITIONS)]
    admin.list_offsets(dict.fromkeys(places, OffsetSpec.latest()), request_timeout=WAIT_SECONDS)
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        admin.poll(0.1)
    return max(broker["connects"] for broker in statistics[-1]["brokers"].values())
