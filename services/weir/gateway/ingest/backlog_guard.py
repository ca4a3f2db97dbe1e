"""Reject new events before the broker deletes old records that consumers have not read yet."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from weir.adapters.errors import RefusedError, UnavailableError
from weir.core.retention import ALL, RetentionPolicy, RetentionUse
from weir.gateway import metrics
from weir.gateway.http.error_codes import Problem
from weir.runtime import logs

RETRY_SECONDS = 60  # longest `retry_after` of a rejected request
REFUSING_SECONDS = 5.0  # longest time between checks while rejecting, to accept events again soon
FIRST_SECONDS = 10.0  # longest wait for the first successful check
AGAIN_SECONDS = 1.0  # between two attempts at the first check
STOP_SECONDS = 1.0
NOT_KNOWN = Problem(
    "unavailable",
    "The age of unread records is not known yet. Nothing was accepted; try again.",
    retry_after=2,
)

Look = Callable[[], list[RetentionUse]]


class RetentionGuard:
    """A thread that checks regularly how old unread records are. A failed check changes nothing.

    Until the first successful check, reject everything, for at most FIRST_SECONDS; then accept, so that
    missing Kafka permissions do not stop ingestion.
    """

    def __init__(
        self,
        look: Look,
        seconds: float,
        policy: RetentionPolicy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._seconds = seconds
        self._policy = policy
        self._clock = clock
        # by source, or ALL; replaced as a whole, because requests read it in another thread
        self._problems: Mapping[str, Problem] = {ALL: NOT_KNOWN} if policy.refuse else {}
        self._asked_at: float | None = None
        self._logged: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {}
        self._shown = metrics.RefusedSources()
        self._failing = False
        self._stop = threading.Event()
        self._log = logs.get("gateway")
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        if self._policy.report_from:
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread, waiting at most STOP_SECONDS; a check in progress may end later."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def problem(self, source: str) -> Problem | None:
        """Return the problem that a source's requests are rejected with; None: they are accepted.

        Call it only once the brokers acknowledge: the wait for the first check starts with the first call.
        """
        problems = self._problems
        if not problems:
            return None
        found = problems.get(ALL) or problems.get(source)
        if found is not NOT_KNOWN:
            return found
        if self._asked_at is None:
            self._asked_at = self._clock()
        return None if self._has_waited() else found

    def is_waiting(self) -> bool:
        """Check whether all events are rejected because no check has succeeded yet. Call it as `problem`."""
        return self.problem(ALL) is NOT_KNOWN

    def check(self) -> None:
        """Check once, and update the rejected sources, the metrics and the log."""
        try:
            found = self._look()
        except (UnavailableError, RefusedError) as fault:
            metrics.RETENTION_FAILURES.inc()
            if not self._failing:
                self._log.warning("the age of unread records is not known", fault=str(fault))
            self._failing = True
            return
        self._failing = False
        self._problems = self._refusals(found)
        self._shown.show(self._problems)
        for unread in found:
            metrics.RETENTION.labels(unread.group, unread.topic).set(unread.share)
            self._log_change(unread)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.check()
            self._stop.wait(self._pause())

    def _pause(self) -> float:
        """Return the seconds until the next check."""
        if self._problems.get(ALL) is NOT_KNOWN:
            return self._seconds if self._has_waited() else min(self._seconds, AGAIN_SECONDS)
        return min(self._seconds, REFUSING_SECONDS) if self._problems else self._seconds

    def _has_waited(self) -> bool:
        return self._asked_at is not None and self._clock() - self._asked_at >= FIRST_SECONDS

    def _log_change(self, unread: RetentionUse) -> None:
        """Log the state of a group and topic when it changes."""
        refused = self._policy.refused(unread)
        level = "refuse" if refused else "warn" if unread.near(self._policy.warn) else ""
        place = unread.group, unread.topic
        if (level, refused) == self._logged.get(place, ("", ())):
            return
        self._logged[place] = level, refused
        fields = {"group": unread.group, "topic": unread.topic, "share": round(unread.share, 2)}
        if level == "refuse":
            text = "events are rejected: unread records are close to their deletion"
            self._log.error(text, sources=",".join(refused), **fields)
        elif level == "warn":
            self._log.warning("unread records are approaching their deletion", **fields)
        else:
            self._log.info("unread records are no longer approaching their deletion", **fields)

    def _refusals(self, found: Iterable[RetentionUse]) -> dict[str, Problem]:
        """Return the problems by source; of several, the one whose unread record is nearest to deletion."""
        nearest = sorted(found, key=lambda unread: unread.share)
        return {
            source: self._problem(unread, source)
            for unread in nearest
            for source in self._policy.refused(unread)
        }

    def _problem(self, unread: RetentionUse, source: str) -> Problem:
        whose = "" if source == ALL else " Most of the unread records are from this source."
        text = (
            f"{unread.group} has not read records of {unread.topic} that have used"
            f" {unread.share:.0%} of their retention, after which they are deleted.{whose} Nothing"
            f" was accepted; try again when {unread.group} has caught up: repair it, run more of it,"
            " or lengthen the topic's retention."
        )
        again = max(1, min(RETRY_SECONDS, math.ceil(self._seconds)))
        return Problem("backlog", text, "", again)
