"""Wait until everything accepted is settled: the workers have decided, and ClickHouse has the results."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from weir.core import topics
from weir.core.stages import DEDUP, IDENTITY, SINK, Stage

LOOK_SECONDS = 0.25
PATIENT_LOOKS = 240  # looks without progress before giving up
# An event passes `events.unique` again when it is forwarded to another identifier, and so do the links
# that it makes: from a mapped identifier to a profile to a user and back.
HOPS = 4
# Stages and topics to wait for, in the order in which an event passes them. `erasures` is left out because
# the eraser itself writes it while it waits. Last come the dead letters that the sink itself has just written.
WAY: tuple[tuple[Stage, tuple[str, ...]], ...] = (
    (DEDUP, DEDUP.reads),
    *[(IDENTITY, IDENTITY.reads)] * HOPS,
    (SINK, tuple(topic for topic in SINK.reads if topic != topics.ERASURES)),
    (SINK, (topics.DEAD,)),
)

Ends = Mapping[tuple[str, int], int]


class ServiceBacklog(NamedTuple):
    """The number of records that a service has yet to process."""

    service: str
    records: int


class NotSettledError(Exception):
    """A stage makes no progress; the text is one sentence that says which."""


class Groups(Protocol):
    """The progress of the consumer groups: `weir.adapters.kafka.group_progress.GroupProgress`."""

    def ends(self, names: Iterable[str]) -> dict[tuple[str, int], int]: ...
    def unread(self, group: str, ends: Ends) -> int: ...


def wait_until_settled(
    groups: Groups, report: Callable[[ServiceBacklog], None], wait: Callable[[float], object]
) -> Ends:
    """Wait, and return where each partition of `events.accepted` ended at the time of the call.

    On return, ClickHouse has the outcome of every event before these ends, unless an event was lost on
    the way. `report` receives what the function waits for. `NotSettledError`: a stage made no progress for
    a minute.
    """
    accepted: Ends | None = None
    for stage, names in WAY:
        ends = groups.ends(names)
        accepted = ends if accepted is None else accepted
        _pass(groups, stage, ends, report, wait)
    return accepted or {}


def _pass(
    groups: Groups,
    stage: Stage,
    ends: Ends,
    report: Callable[[ServiceBacklog], None],
    wait: Callable[[float], object],
) -> None:
    fewest, looks = None, 0
    while unread := groups.unread(stage.group, ends):
        if fewest is None or unread < fewest:
            fewest, looks = unread, 0
        looks += 1
        if looks > PATIENT_LOOKS:
            raise NotSettledError(
                f"{stage.name} has not processed {unread:,} accepted records and makes no progress:"
                " see `weir status`."
            )
        report(ServiceBacklog(stage.name, unread))
        wait(LOOK_SECONDS)
