"""Which partitions a gateway reports as failing."""

from typing import NamedTuple

from weir.gateway.ingest.producer import FAILING_SECONDS, READY_SECONDS, FailingPartitions


class Message(NamedTuple):
    """A record of a delivery report."""

    at: int

    def topic(self) -> str:
        return "events.accepted"

    def partition(self) -> int:
        return self.at

    def value(self) -> bytes:
        return b""


def test_a_partition_fails_after_failures_over_some_seconds_without_a_success() -> None:
    failing = FailingPartitions()
    assert not failing
    failing.failed(Message(3), 0.0)
    assert failing.named(1.0) == []
    failing.failed(Message(3), READY_SECONDS)
    assert failing.named(READY_SECONDS) == ["events.accepted-3"]
    failing.succeeded(Message(4))
    assert failing.named(READY_SECONDS) == ["events.accepted-3"]
    failing.succeeded(Message(3))
    assert failing.named(READY_SECONDS) == []
    assert not failing


def test_a_failure_of_long_ago_does_not_count() -> None:
    failing = FailingPartitions()
    failing.failed(Message(3), 0.0)
    failing.failed(Message(3), READY_SECONDS)
    assert failing.named(READY_SECONDS + FAILING_SECONDS) == []
    failing.failed(Message(3), READY_SECONDS + 2 * FAILING_SECONDS)  # begins a new span
    assert failing.named(READY_SECONDS + 2 * FAILING_SECONDS) == []
