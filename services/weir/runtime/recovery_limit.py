"""A limit on recoveries: after too many without a commit the process ends, and its supervisor starts another."""

import time
from collections import deque
from collections.abc import Callable

LIMIT = 6
AT_LEAST_SECONDS = 60.0  # so that the supervisor does not have to restart it constantly
WITHIN_SECONDS = 3_600.0  # long enough for recoveries that each take minutes


class RecoveryFailedError(Exception):
    """Recovery within the process has not helped: end the process. Nothing uncommitted counts."""


class RecoveryLimit:
    """Counts the recoveries of a service since its last commit."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._times: deque[float] = deque()

    def committed(self) -> None:
        """Note a commit: the last recovery has helped."""
        self._times.clear()

    def begin(self, fault: object) -> None:
        """Note that a recovery begins because of `fault`; `RecoveryFailedError` if there were too many."""
        now = self._clock()
        while self._times and now - self._times[0] > WITHIN_SECONDS:
            self._times.popleft()
        if len(self._times) >= LIMIT and now - self._times[0] >= AT_LEAST_SECONDS:
            raise RecoveryFailedError(
                f"{len(self._times)} recoveries in {now - self._times[0]:.0f} s without a commit "
                f"between them; the last fault: {fault}"
            )
        self._times.append(now)
