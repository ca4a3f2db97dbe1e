"""Detect stalls: the working thread reports progress, and the health endpoint's thread asks for it."""

import time
from collections.abc import Callable, Iterable, Mapping

from weir.runtime import metrics

STALLED_SECONDS = 30.0


class StallWatch:
    """Detects partitions without progress although records wait in them.

    It also works while the working thread is stuck inside a call, because it needs no action of that thread.
    The metric `weir_stalled_seconds` exports the longest stall.
    """

    def __init__(
        self, service: str, unit: str = "records", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._unit = unit
        self._clock = clock
        self._since: dict[str, float] = {}  # last progress of each partition with waiting records
        self._waiting: Mapping[str, int] = {}
        metrics.STALLED.labels(service).set_function(lambda: self.stalled_seconds)

    def waits(self, counts: Mapping[str, int]) -> None:
        """Set how many records wait in each owned partition; other partitions are forgotten."""
        self._waiting, since, now = counts, self._since, self._clock()
        self._since = {place: since.get(place, now) for place, count in counts.items() if count}

    def found(self, places: Iterable[str]) -> None:
        """Note that at least one record waits in each of these partitions."""
        if fresh := [place for place in places if place not in self._since]:
            self._since = self._since | dict.fromkeys(fresh, self._clock())

    def moved(self, places: Iterable[str]) -> None:
        """Note that records of these partitions were settled."""
        now = self._clock()
        self._since = self._since | {place: now for place in places if place in self._since}

    @property
    def stalled_seconds(self) -> float:
        """Seconds since the last progress in the slowest partition; 0 if no record waits."""
        return max(0.0, self._clock() - min(self._since.values(), default=self._clock()))

    def explain(self) -> str:
        """Return why the service is not ready; empty if every partition makes progress."""
        since, now = self._since, self._clock()
        stalled = [place for place, at in since.items() if now - at >= STALLED_SECONDS]
        if not stalled:
            return ""
        seconds = now - min(since.values())
        waiting = sum(self._waiting.get(place, 1) for place in stalled)
        where = ""
        if len(stalled) < len(since):
            more = f" and {len(stalled) - 2} more" if len(stalled) > 2 else ""
            where = f" in {', '.join(sorted(stalled)[:2])}{more}"
        return f"no progress for {seconds:.0f} s{where} while {waiting:,} {self._unit} wait"
