"""Waits until the workers have decided about all that has been accepted, and the sink has it in ClickHouse."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from services.core import topics
from services.core.stages import DEDUP, IDENTITY, SINK, service_of
from services.edge.faults import RefusedError

LOOK_SECONDS = 0.25
PATIENT_LOOKS = 240  # without a record less to go
# In the order in which an event passes them. One that another identifier decides about goes through
# `events.unique` again, at most from a mapped one to a profile to a user; the sink writes dead letters.
WAY = (
    (DEDUP.group, DEDUP.reads),
    *[(IDENTITY.group, IDENTITY.reads)] * 3,
    (SINK.group, (topics.RESOLVED, topics.DUPLICATE, topics.DEAD, topics.RECOVERIES)),
    (SINK.group, (topics.DEAD,)),
)

Ends = Mapping[tuple[str, int], int]


class Groups(Protocol):
    """`services.edge.kafka_passing.Passing`."""

    def ends(self, topics: Iterable[str]) -> dict[tuple[str, int], int]: ...
    def unread(self, group: str, ends: Ends) -> int: ...


def settle(groups: Groups, tell: Callable[[str], None], wait: Callable[[float], None]) -> Ends:
    """Where each partition of `events.accepted` ended at the call.

    What became of every event before that is in ClickHouse on return, unless it was lost on the
    way. `tell` hears what is waited for; `RefusedError` where that does not get on.
    """
    accepted: Ends | None = None
    for group, names in WAY:
        ends = groups.ends(names)
        accepted = ends if accepted is None else accepted
        _pass(groups, group, ends, tell, wait)
    return accepted or {}


def _pass(
    groups: Groups,
    group: str,
    ends: Ends,
    tell: Callable[[str], None],
    wait: Callable[[float], None],
) -> None:
    service = service_of(group)
    fewest, looks = None, 0
    while unread := groups.unread(group, ends):
        if fewest is None or unread < fewest:
            fewest, looks = unread, 0
        looks += 1
        if looks > PATIENT_LOOKS:
            raise RefusedError(
                f"{service} has {unread:,} records to go of what has been accepted, and does not get"
                " on: what it has yet to decide would be taken for lost. See `weir status`, and run"
                " this again once it works."
            )
        tell(f"waits for {service}: {unread:,} records to go")
        wait(LOOK_SECONDS)
