"""Refuses new events before the broker deletes old ones that nobody has read yet."""

import math
import threading
from collections.abc import Callable, Iterable

from services.core.retention import Unread
from services.edge.faults import NotReachedError, RefusedError
from services.gateway import metrics
from services.gateway.refusals import Problem
from services.runtime import logs

RETRY_SECONDS = 60  # at most
REFUSING_SECONDS = 5.0  # between two looks then, at most: events are taken again soon
STOP_SECONDS = 1.0

Look = Callable[[], list[Unread]]


class RetentionGuard:
    """Looks now and then, in a thread of its own. A look that fails changes nothing.

    `problem` is what requests are refused with; None: they are taken. `warn`, `refuse`: shares of a
    topic's retention, 0: off.
    """

    def __init__(self, look: Look, seconds: float, warn: float, refuse: float) -> None:
        self.problem: Problem | None = None
        self._look = look
        self._seconds = seconds
        self._warn = warn
        self._refuse = refuse
        self._levels: dict[tuple[str, str], str] = {}
        self._failing = False
        self._stop = threading.Event()
        self._log = logs.get("gateway")
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        if self._warn or self._refuse:
            self._thread.start()

    def stop(self) -> None:
        """Ended on return, or with the present look."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def look(self) -> None:
        """One look, and what follows from it."""
        try:
            found = self._look()
        except (NotReachedError, RefusedError) as fault:
            metrics.RETENTION_FAILURES.inc()
            if not self._failing:
                self._log.warning("the age of unread records is not known", fault=str(fault))
            self._failing = True
            return
        self._failing = False
        self.problem = self._problem(found)
        for unread in found:
            metrics.RETENTION.labels(unread.group, unread.topic).set(unread.share)
            self._tell(unread)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            refusing = self.problem is not None
            self._stop.wait(min(REFUSING_SECONDS, self._seconds) if refusing else self._seconds)

    def _tell(self, unread: Unread) -> None:
        """In the log, when it changes."""
        level = "refuse" if unread.near(self._refuse) else "warn" if unread.near(self._warn) else ""
        before = self._levels.get((unread.group, unread.topic), "")
        if level == before:
            return
        self._levels[unread.group, unread.topic] = level
        told = {"group": unread.group, "topic": unread.topic, "share": round(unread.share, 2)}
        if level == "refuse":
            self._log.error("events are refused: unread records are near their deletion", **told)
        elif level == "warn":
            self._log.warning("unread records are on the way to their deletion", **told)
        else:
            self._log.info("unread records are far from their deletion again", **told)

    def _problem(self, found: Iterable[Unread]) -> Problem | None:
        near = [unread for unread in found if unread.near(self._refuse)]
        if not near:
            return None
        worst = max(near, key=lambda unread: unread.share)
        text = (
            f"{worst.group} has not read records of {worst.topic} that have used"
            f" {worst.share:.0%} of their retention, after which they are deleted. Nothing was"
            f" accepted; try again when it has caught up: mend {worst.group}, run more of it, or"
            " lengthen the topic's retention."
        )
        again = max(1, min(RETRY_SECONDS, math.ceil(self._seconds)))
        return Problem("backlog", text, "", again)
