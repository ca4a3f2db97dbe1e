"""The wait ends when every accepted event has passed every stage, or names the stalled service."""

from collections import Counter
from collections.abc import Iterable, Mapping

import pytest

from weir.core import topics
from weir.runtime.wait_settled import (
    PATIENT_LOOKS,
    Ends,
    NotSettledError,
    ServiceBacklog,
    wait_until_settled,
)

Place = tuple[str, int]


class Pipeline:
    """Ten events on their way: at each look the workers go on with what they have, but for who stands still."""

    def __init__(self, still: str = "") -> None:
        self.still = still
        self.ends_of: Counter[str] = Counter({topics.ACCEPTED: 10})
        self.passed: dict[tuple[str, str], int] = {}
        self.reports: list[ServiceBacklog] = []

    def ends(self, names: Iterable[str]) -> dict[Place, int]:
        assert topics.ERASURES not in names  # the eraser would wait for what it writes itself
        return {(topic, 0): self.ends_of[topic] for topic in names}

    def unread(self, group: str, ends: Ends) -> int:
        return sum(max(0, end - self.passed.get((group, at[0]), 0)) for at, end in ends.items())

    def work(self, _seconds: float) -> None:
        """Two records each, one after the other: a tenth of the events is forwarded, one dies in the sink."""
        self._go_on("weir.dedup", topics.ACCEPTED, {topics.UNIQUE: 1})
        forwards = self.passed.get(("weir.identity", topics.UNIQUE), 0) < 4
        self._go_on(
            "weir.identity", topics.UNIQUE, {topics.UNIQUE if forwards else topics.RESOLVED: 1}
        )
        dies = self.passed.get(("weir.sink", topics.RESOLVED), 0) == 0
        self._go_on("weir.sink", topics.RESOLVED, {topics.DEAD: 1} if dies else {})
        self._go_on("weir.sink", topics.DEAD, {})

    def _go_on(self, group: str, topic: str, writes: Mapping[str, int]) -> None:
        if group == self.still:
            return
        at = self.passed.get((group, topic), 0)
        if at < self.ends_of[topic]:
            self.passed[group, topic] = at + 1
            for written, records in writes.items():
                self.ends_of[written] += records


def test_the_wait_ends_when_every_accepted_event_has_passed_every_stage() -> None:
    pipeline = Pipeline()
    assert wait_until_settled(pipeline, pipeline.reports.append, pipeline.work) == {
        (topics.ACCEPTED, 0): 10
    }
    assert pipeline.ends_of[topics.RESOLVED] == 10
    for group, topic in (
        ("weir.dedup", topics.ACCEPTED),
        ("weir.identity", topics.UNIQUE),
        ("weir.sink", topics.RESOLVED),
        ("weir.sink", topics.DEAD),
    ):
        assert pipeline.passed[group, topic] == pipeline.ends_of[topic], topic
    assert pipeline.reports[0] == ServiceBacklog("dedup", 10)


def test_events_accepted_during_the_wait_are_not_waited_for() -> None:
    pipeline = Pipeline()

    def work(seconds: float) -> None:
        pipeline.ends_of[topics.ACCEPTED] += 2
        pipeline.work(seconds)

    assert wait_until_settled(pipeline, pipeline.reports.append, work) == {(topics.ACCEPTED, 0): 10}


@pytest.mark.parametrize("service", ["dedup", "identity", "sink"])
def test_a_service_without_progress_is_named_in_the_error(service: str) -> None:
    pipeline = Pipeline(still=f"weir.{service}")
    looks = 0

    def work(seconds: float) -> None:
        nonlocal looks
        looks += 1
        pipeline.work(seconds)

    with pytest.raises(
        NotSettledError, match=rf"{service} has not processed 1\d* accepted records"
    ):
        wait_until_settled(pipeline, pipeline.reports.append, work)
    assert looks >= PATIENT_LOOKS
