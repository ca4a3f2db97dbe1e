"""Whether a service moves while records wait for it: told by the thread that works, asked by the one that answers."""

import time
from collections.abc import Callable, Iterable, Mapping

from weir.runtime import metrics

STALLED_SECONDS = 30.0


class StallWatch:
    """Tells which partitions do not move although records wait in them.

    Right also while the working thread is stuck inside a call: it needs nothing of it then.
    `weir_stalled_seconds` has the longest of them as a number.
    """

    def __init__(
        self, service: str, unit: str = "records", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._unit = unit
        self._clock = clock
        self._since: dict[str, float] = {}  # the last progress of each in which something waits
        self._waiting: Mapping[str, int] = {}
        metrics.STALLED.labels(service).set_function(lambda: self.stalled_seconds)

    def waits(self, counts: Mapping[str, int]) -> None:
        """So many records wait in each partition that is ours. What is not known is not told."""
        self._waiting, since, now = counts, self._since, self._clock()
        self._since = {place: since.get(place, now) for place, count in counts.items() if count}

    def found(self, places: Iterable[str]) -> None:
        """In these at least one record waits."""
        if fresh := [place for place in places if place not in self._since]:
            self._since = self._since | dict.fromkeys(fresh, self._clock())

    def moved(self, places: Iterable[str]) -> None:
        """In these something is settled."""
        now = self._clock()
        self._since = self._since | {place: now for place in places if place in self._since}

    @property
    def stalled_seconds(self) -> float:
        """How long nothing has moved in the worst of the partitions; 0 when none waits."""
        return max(0.0, self._clock() - min(self._since.values(), default=self._clock()))

    def explain(self) -> str:
        """Say why the service is not ready; empty: everything that waits moves."""
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
