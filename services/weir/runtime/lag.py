"""The lag of a service: how many records wait in each partition that it owns, and for how long."""

import time
from collections.abc import Callable, Mapping

from weir.runtime.metrics import LAG_RECORDS, LAG_SECONDS

EVERY_SECONDS = 1.0


class LagClock:
    """Computes since when records have waited, from the number of waiting and the settled records. Pure.

    For each partition it keeps a time up to which everything is settled: the timestamp of the last
    settled record, or the last moment at which nothing waited. So the lag of a stalled partition grows
    with the clock, and a record that arrives after a quiet hour does not count as an hour late.
    """

    def __init__(self) -> None:
        self._settled_until: dict[str, float] = {}

    def settled(self, partition: str, timestamp_ms: int) -> None:
        """Note that everything up to a record with this timestamp is settled."""
        self._settled_until[partition] = timestamp_ms / 1000

    def waiting_since(self, records: Mapping[str, int], now: float) -> float | None:
        """Return since when the oldest record waits (epoch seconds), or None if no record waits.

        `records`: how many wait in each owned partition at `now` (epoch seconds).
        """
        until = self._settled_until
        self._settled_until = {
            partition: until.get(partition, now) if waiting else now
            for partition, waiting in records.items()
        }
        return min(
            (self._settled_until[p] for p, waiting in records.items() if waiting), default=None
        )


class LagReport:
    """Exports a service's lag. Each partition, idle ones included, is exported by its owner only."""

    def __init__(self, service: str, clock: Callable[[], float] = time.time) -> None:
        self._service = service
        self._clock = clock
        self._lag = LagClock()
        self._exported: set[str] = set()
        self._due_at = -EVERY_SECONDS
        self._waiting_since: float | None = None
        # computed when metrics are read, so that it grows even while the service is stuck
        LAG_SECONDS.labels(service).set_function(self.seconds)

    def settled(self, partition: str, timestamp_ms: int) -> None:
        """Note that everything up to a record with this timestamp is settled."""
        self._lag.settled(partition, timestamp_ms)

    def is_due(self, now: float) -> bool:
        """Check whether EVERY_SECONDS have passed since this last returned True, by the caller's clock."""
        if now - self._due_at < EVERY_SECONDS:
            return False
        self._due_at = now
        return True

    def export(self, records: Mapping[str, int]) -> None:
        """Export the number of waiting records by partition, and remove partitions that are no longer owned.

        `records` has every owned partition.
        """
        self._waiting_since = self._lag.waiting_since(records, self._clock())
        self._remove(self._exported - records.keys())
        for partition, waiting in records.items():
            LAG_RECORDS.labels(self._service, partition).set(waiting)
        self._exported = set(records)

    def disown(self) -> None:
        """Remove all partitions until the next export. The waiting time keeps growing."""
        self._remove(self._exported)
        self._exported = set()

    def seconds(self) -> float:
        """Return how long the oldest waiting record has waited."""
        since = self._waiting_since
        return 0.0 if since is None else max(0.0, self._clock() - since)

    def _remove(self, partitions: set[str]) -> None:
        for partition in partitions:
            LAG_RECORDS.remove(self._service, partition)
