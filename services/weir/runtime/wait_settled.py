"""Waits until everything accepted is settled: the workers have decided, and ClickHouse has what came of it."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from weir.core import topics
from weir.core.stages import DEDUP, IDENTITY, SINK, Stage

LOOK_SECONDS = 0.25
PATIENT_LOOKS = 240  # without a record less to go
# An event goes through `events.unique` again when another identifier decides about it, and so does
# what it links: from a mapped one to a profile to a user and back.
HOPS = 4
# In the order in which an event passes them. The eraser writes `erasures` itself while it waits. The
# sink reads last the dead letters that it has just written.
WAY: tuple[tuple[Stage, tuple[str, ...]], ...] = (
    (DEDUP, DEDUP.reads),
    *[(IDENTITY, IDENTITY.reads)] * HOPS,
    (SINK, tuple(topic for topic in SINK.reads if topic != topics.ERASURES)),
    (SINK, (topics.DEAD,)),
)

Ends = Mapping[tuple[str, int], int]


class ServiceBacklog(NamedTuple):
    """Which service has how many records to go."""

    service: str
    records: int


class NotSettledError(Exception):
    """A stage does not get on; the text says which, in one sentence."""


class Groups(Protocol):
    """`weir.adapters.kafka.group_progress.Passing`."""

    def ends(self, names: Iterable[str]) -> dict[tuple[str, int], int]: ...
    def unread(self, group: str, ends: Ends) -> int: ...


def settle(
    groups: Groups, tell: Callable[[ServiceBacklog], None], wait: Callable[[float], object]
) -> Ends:
    """Return where each partition of `events.accepted` ended at the call.

    What became of every event before that is in ClickHouse on return, unless it was lost on the
    way. `tell` hears what is waited for. `NotSettledError`: a stage does not get on for a minute.
    """
    accepted: Ends | None = None
    for stage, names in WAY:
        ends = groups.ends(names)
        accepted = ends if accepted is None else accepted
        _pass(groups, stage, ends, tell, wait)
    return accepted or {}


def _pass(
    groups: Groups,
    stage: Stage,
    ends: Ends,
    tell: Callable[[ServiceBacklog], None],
    wait: Callable[[float], object],
) -> None:
    fewest, looks = None, 0
    while unread := groups.unread(stage.group, ends):
        if fewest is None or unread < fewest:
            fewest, looks = unread, 0
        looks += 1
        if looks > PATIENT_LOOKS:
            raise NotSettledError(
                f"{stage.name} has {unread:,} records to go of what has been accepted, and does not"
                " get on. `weir status` says why."
            )
        tell(ServiceBacklog(stage.name, unread))
        wait(LOOK_SECONDS)
