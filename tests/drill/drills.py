"""The table of drills: which fault, how often."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.drill import servers, state
from tests.drill.cluster import ClusterWorld, each_in_turn, one_killed, rolling_restart, two_killed
from tests.drill.processes import (
    each_killed,
    ended,
    killed,
    killed_together,
    replaced,
    scaled,
    slept,
)
from tests.drill.state import remade
from tests.drill.world import WORKERS, World
from weir.core import topics

W = TypeVar("W", bound=World)


@dataclass(frozen=True)
class Drill(Generic[W]):
    """A fault, how often it is done one after another, and how often in the short cut (0: not there)."""

    name: str
    fault: Callable[[W, random.Random], None]
    rounds: int
    short: int = 0

    def times(self, short: bool) -> int:
        return self.short if short else self.rounds


DRILLS: tuple[Drill[World], ...] = (
    *(Drill(f"{name} killed", killed(name), 50) for name in ("gateway", *WORKERS)),
    Drill("each process killed", each_killed, 0, 1),
    Drill("any two killed", killed_together, 20),
    *(Drill(f"{name} ended", ended(name), 5) for name in ("gateway", *WORKERS)),
    *(Drill(f"{name} slept", slept(name), 2) for name in ("gateway", *WORKERS)),
    *(Drill(f"{name} replaced", replaced(name), 2) for name in WORKERS),
    Drill("workers scaled", scaled, 20, 1),
    Drill("broker killed", servers.broker_killed, 5),
    Drill("broker restarted", servers.broker_restarted, 3),
    Drill("broker slept", servers.broker_slept, 1),
    Drill("broker's disk full", servers.broker_disk_full, 1),
    Drill("warehouse killed", killed("warehouse"), 10),
    Drill("warehouse killed inserting", servers.engine_killed_inserting, 10),
    Drill("warehouse slept", servers.engine_slept, 1),
    Drill("warehouse slow", servers.engine_slow, 1),
    Drill("warehouse away", servers.engine_away, 1),
    Drill("warehouse full", servers.engine_full, 2),
    Drill("warehouse read-only", servers.engine_read_only, 4),
    Drill("warehouse out of memory", servers.engine_out_of_memory, 1),
    Drill("warehouse's disk full", servers.engine_disk_full, 1),
    Drill("state deleted", state.state_deleted, 6),
    Drill("state damaged", state.state_damaged, 8),
    Drill("state's disk full", state.state_disk_full, 3),
    Drill("changelogs compacted", state.changelogs_compacted, 2),
    Drill("groups deleted", state.groups_deleted, 3, 1),
    Drill("offsets of an earlier version", state.offsets_of_an_earlier_version, 2),
    Drill("events.accepted remade", remade(topics.ACCEPTED, "gateway", "dedup"), 4),
    Drill("events.unique remade", remade(topics.UNIQUE, "dedup", "identity"), 4),
    Drill("events.resolved remade", remade(topics.RESOLVED, "identity", "sink"), 4),
    Drill("usage remade", remade(topics.USAGE, "dedup", "rates"), 3),
    Drill("clock jumped", state.clock_jumped, 2),
)

CLUSTER_DRILLS: tuple[Drill[ClusterWorld], ...] = (
    Drill("one of three brokers killed", one_killed, 3),
    Drill("two of three brokers killed", two_killed, 3),
    Drill("three brokers restarted in turn", rolling_restart, 3),
    Drill("three brokers killed and restarted", each_in_turn, 0, 1),
)
