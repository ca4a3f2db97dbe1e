"""Every stage of the stream, in the order in which an event passes them: the one table of who reads and writes what.

A stage is a service that is a consumer group. Everything that has to know the topology reads it here:
the services themselves, the audit, `weir status`, the search for one event, the guard of the
retention, `weir up`, and the tests, which hold deploy/ against it.
"""

from dataclasses import dataclass

from weir.core import topics

GROUP_PREFIX = "weir."


def group_of(service: str) -> str:
    """The consumer group of a service."""
    return GROUP_PREFIX + service


def service_of(group: str) -> str:
    """The service that a consumer group is of."""
    return group.removeprefix(GROUP_PREFIX)


@dataclass(frozen=True)
class Stage:
    """One consumer group. Its module is `services.<name>`, its number of processes `<NAME>_INSTANCES`."""

    name: str
    reads: tuple[str, ...]
    outputs: tuple[str, ...] = ()  # what its decisions may write
    changelog: str = ""  # the topic of its state; empty: it keeps none
    reports: tuple[str, ...] = ()  # what the loop around its decisions writes, whatever they are

    @property
    def group(self) -> str:
        return group_of(self.name)

    @property
    def writes(self) -> tuple[str, ...]:
        """Every topic that it may write to, each once."""
        state = (self.changelog,) if self.changelog else ()
        return tuple(dict.fromkeys((*self.outputs, *state, *self.reports)))


WORKERS_REPORT = (topics.DEAD, topics.USAGE, topics.POSITIONS)

DEDUP = Stage(
    "dedup",
    reads=(topics.ACCEPTED,),
    outputs=(topics.UNIQUE, topics.DUPLICATE, topics.RECEIPTS),
    changelog=topics.DEDUP_STATE,
    reports=WORKERS_REPORT,
)
IDENTITY = Stage(
    "identity",
    reads=(topics.UNIQUE,),
    outputs=(topics.RESOLVED, topics.UNIQUE, topics.PROFILES, topics.RECEIPTS),
    changelog=topics.PROFILES,
    reports=WORKERS_REPORT,
)
RATES = Stage(
    "rates",
    reads=(topics.USAGE,),
    changelog=topics.QUOTAS,
    reports=WORKERS_REPORT,
)
SINK = Stage(
    "sink",
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
# Those that an event itself passes, by the topic in which it waits for them.
EVENT_STAGES = {topics.ACCEPTED: DEDUP, topics.UNIQUE: IDENTITY, topics.RESOLVED: SINK}
GROUPS = {stage.group: stage.reads for stage in STAGES}
