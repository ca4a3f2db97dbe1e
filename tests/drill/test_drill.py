"""Every event counts once while processes are killed and scaled under load: `make drill` in short."""

from pathlib import Path

import pytest
from rich.console import Console

from tests.drill.__main__ import drill_all
from tests.drill.drills import DRILLS
from tests.drill.world import World


@pytest.mark.timeout(3_000)
def test_no_event_is_lost_or_doubled_when_processes_are_killed_and_scaled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    short = [drill for drill in DRILLS if drill.short]
    with World(tmp_path) as world:
        verdicts = drill_all(world, short, True, seed, Console(highlight=False))
    assert len(verdicts) == len(short)
    assert not [v.faults for v in verdicts if v.faults], f"--seed {seed}\n{capsys.readouterr().out}"
    assert all(verdict.sent.distinct for verdict in verdicts)
