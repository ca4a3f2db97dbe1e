"""When beginning anew does not help: a process that has tried too often ends, for its supervisor to start another."""

import time
from collections import deque
from collections.abc import Callable

LIMIT = 6
AT_LEAST_SECONDS = 60.0  # a supervisor that starts it again must not have to do so all the time
WITHIN_SECONDS = 600.0


class RecoveryFailedError(Exception):
    """Beginning anew within the process has not helped: end it. Nothing uncommitted counts."""


class RecoveryLimit:
    """Counts how often a service has begun anew since it last committed something."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._times: deque[float] = deque()

    def committed(self) -> None:
        """The last one has helped."""
        self._times.clear()

    def begin(self, fault: object) -> None:
        """One more is about to begin, because of the fault; `RecoveryFailedError` if it is one too many."""
        now = self._clock()
        while self._times and now - self._times[0] > WITHIN_SECONDS:
            self._times.popleft()
        if len(self._times) >= LIMIT and now - self._times[0] >= AT_LEAST_SECONDS:
            raise RecoveryFailedError(
                f"{len(self._times)} recoveries in {now - self._times[0]:.0f} s and no commit "
                f"between them; the last fault: {fault}"
            )
        self._times.append(now)
