"""The short cut of the drills on three brokers: nothing is lost or doubled, and nothing accepted that is not safe."""

from pathlib import Path

import pytest
from rich.console import Console

from tests.drill.__main__ import drill_all
from tests.drill.cluster import ClusterWorld
from tests.drill.drills import CLUSTER_DRILLS
from tests.drill.world import WORKERS
from weir.runtime.recovery_limit import LIMIT

PARTITIONS = 6


@pytest.mark.timeout(1_200)
def test_brokers_die_and_restart_under_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    short = [drill for drill in CLUSTER_DRILLS if drill.short]
    # `make drill` has the 48 of production; here other tests need the machine, too
    with ClusterWorld(tmp_path, PARTITIONS) as world:
        verdicts = drill_all(world, short, True, seed, Console(highlight=False))
    said = f"--seed {seed}\n{capsys.readouterr().out}"
    assert len(verdicts) == len(short)
    assert not [v.faults for v in verdicts if v.faults], said
    assert all(verdict.sent.distinct for verdict in verdicts)
    # no storm: what began anew went on before it was given up
    assert all(verdict.recoveries < LIMIT * len(WORKERS) for verdict in verdicts), said
