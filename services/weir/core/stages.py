"""The topology: every stage of the stream in the order in which events pass them, with its topics.

A stage is a service that is a consumer group. Everything that needs the topology reads it here: the
services themselves, the audit, `weir status`, the search for one event, the retention guard,
`weir up`, and the tests, which compare deploy/ with it.
"""

from dataclasses import dataclass

from weir.core import topics

GROUP_PREFIX = "weir."


def group_of(service: str) -> str:
    """Return the consumer group of a service."""
    return GROUP_PREFIX + service


def service_of(group: str) -> str:
    """Return the service to which a consumer group belongs."""
    return group.removeprefix(GROUP_PREFIX)


@dataclass(frozen=True)
class Stage:
    """One consumer group. `weir.<name>` runs it; `WEIR_<NAME>_INSTANCES` is its number of processes."""

    name: str
    does: str  # for `weir --help`
    reads: tuple[str, ...]
    outputs: tuple[str, ...] = ()  # topics that its step may write to
    changelog: str = ""  # the changelog topic of its state; empty: it keeps no state
    reports: tuple[str, ...] = ()  # topics that the loop around the step writes to

    @property
    def group(self) -> str:
        return group_of(self.name)

    @property
    def writes(self) -> tuple[str, ...]:
        """Every topic that the stage may write to, without repeats."""
        state = (self.changelog,) if self.changelog else ()
        return tuple(dict.fromkeys((*self.outputs, *state, *self.reports)))


WORKERS_REPORT = (topics.DEAD, topics.USAGE, topics.POSITIONS)

DEDUP = Stage(
    "dedup",
    "Passes each event's first occurrence on.",
    reads=(topics.ACCEPTED,),
    outputs=(topics.UNIQUE, topics.DUPLICATE, topics.RECEIPTS),
    changelog=topics.DEDUP_STATE,
    reports=WORKERS_REPORT,
)
IDENTITY = Stage(
    "identity",
    "Gives each event its profile and session.",
    reads=(topics.UNIQUE,),
    outputs=(topics.RESOLVED, topics.UNIQUE, topics.PROFILES, topics.RECEIPTS),
    changelog=topics.PROFILES,
    reports=WORKERS_REPORT,
)
RATES = Stage(
    "rates",
    "Counts what every source sends and checks its quotas.",
    reads=(topics.USAGE,),
    changelog=topics.QUOTAS,
    reports=WORKERS_REPORT,
)
SINK = Stage(
    "sink",
    "Inserts every record into ClickHouse once.",
    reads=(
        topics.RESOLVED,
        topics.DUPLICATE,
        topics.REJECTED,
        topics.DEAD,
        topics.RECOVERIES,
        topics.USAGE,
        topics.PROFILES,
        topics.QUOTAS,
        topics.ERASURES,
    ),
    reports=(topics.DEAD, topics.POSITIONS),
)

STAGES = (DEDUP, IDENTITY, RATES, SINK)
# The stages that an event itself passes, by the topic in which it waits for the stage.
EVENT_STAGES = {topics.ACCEPTED: DEDUP, topics.UNIQUE: IDENTITY, topics.RESOLVED: SINK}
GROUPS = {stage.group: stage.reads for stage in STAGES}
