"""How far behind a service is: records that wait in each partition it owns, and for how long."""

import time
from collections.abc import Callable, Mapping

from weir.runtime.metrics import LAG_RECORDS, LAG_SECONDS

EVERY_SECONDS = 1.0


class LagClock:
    """Tells since when records have waited, from how many wait and from what was settled. Pure.

    Of each partition it knows a time up to which everything is settled: the timestamp of the last
    settled record, or the last moment at which nothing waited. So the lag of a partition that does
    not move grows with the clock, and a record that comes after a quiet hour is not an hour late.
    """

    def __init__(self) -> None:
        self._settled_until: dict[str, float] = {}

    def settled(self, partition: str, timestamp_ms: int) -> None:
        """Everything up to a record of this time is settled."""
        self._settled_until[partition] = timestamp_ms / 1000

    def waiting_since(self, records: Mapping[str, int], now: float) -> float | None:
        """`records`: how many wait in each owned partition at `now` (epoch seconds). None: none waits."""
        until = self._settled_until
        self._settled_until = {
            partition: until.get(partition, now) if waiting else now
            for partition, waiting in records.items()
        }
        return min(
            (self._settled_until[p] for p, waiting in records.items() if waiting), default=None
        )


class LagReport:
    """Exports a service's lag: each partition by its owner alone, idle ones included."""

    def __init__(self, service: str, clock: Callable[[], float] = time.time) -> None:
        self._service = service
        self._clock = clock
        self._lag = LagClock()
        self._exported: set[str] = set()
        self._due_at = -EVERY_SECONDS
        self._waiting_since: float | None = None
        # asked when metrics are read, so that it grows although the service stands still
        LAG_SECONDS.labels(service).set_function(self.seconds)

    def settled(self, partition: str, timestamp_ms: int) -> None:
        """Everything up to a record of this time is settled."""
        self._lag.settled(partition, timestamp_ms)

    def is_due(self, now: float) -> bool:
        """Whether a second has passed since it was last so, by the caller's clock."""
        if now - self._due_at < EVERY_SECONDS:
            return False
        self._due_at = now
        return True

    def export(self, records: Mapping[str, int]) -> None:
        """`records` has every owned partition; what was exported of any other is removed."""
        self._waiting_since = self._lag.waiting_since(records, self._clock())
        self._remove(self._exported - records.keys())
        for partition, waiting in records.items():
            LAG_RECORDS.labels(self._service, partition).set(waiting)
        self._exported = set(records)

    def disown(self) -> None:
        """No partition is owned until the next export. What waited goes on waiting."""
        self._remove(self._exported)
        self._exported = set()

    def seconds(self) -> float:
        """How long the oldest of the waiting records has waited."""
        since = self._waiting_since
        return 0.0 if since is None else max(0.0, self._clock() - since)

    def _remove(self, partitions: set[str]) -> None:
        for partition in partitions:
            LAG_RECORDS.remove(self._service, partition)
