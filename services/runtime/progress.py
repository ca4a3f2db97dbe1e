"""Whether a service moves while records wait for it: told by the thread that works, asked by the one that answers."""

import time
from collections.abc import Callable

from services.runtime import metrics

STALLED_SECONDS = 30.0


class StallWatch:
    """Right also while the working thread is stuck inside a call: it needs nothing of it then.

    `weir_stalled_seconds` has it as a number.
    """

    def __init__(
        self, service: str, unit: str = "records", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._unit = unit
        self._clock = clock
        self._since: float | None = None  # the last progress, while something waits
        self._waiting = 0
        metrics.STALLED.labels(service).set_function(lambda: self.stalled_seconds)

    def waits(self, count: int) -> None:
        """So many records wait now. What is not known is not told."""
        self._waiting = count
        if not count:
            self._since = None
        elif self._since is None:
            self._since = self._clock()

    def moved(self) -> None:
        """Something is settled."""
        if self._since is not None:
            self._since = self._clock()

    @property
    def stalled_seconds(self) -> float:
        """How long nothing has moved while records wait; 0 when none waits."""
        since = self._since
        return 0.0 if since is None else max(0.0, self._clock() - since)

    def explain(self) -> str:
        """Say why the service is not ready; empty: it moves, or nothing waits."""
        seconds = self.stalled_seconds
        if seconds < STALLED_SECONDS:
            return ""
        return f"no progress for {seconds:.0f} s while {self._waiting:,} {self._unit} wait"
