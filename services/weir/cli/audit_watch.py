"""`weir audit --watch`: audit periodically, publish metrics, and print a line when the result changes."""

import threading
import time
from collections.abc import Callable

from prometheus_client import Counter, Gauge

from weir.adapters.errors import RefusedError, UnavailableError
from weir.audit.auditor import Audit, Auditor, as_json
from weir.audit.clickhouse_counts import AuditRange
from weir.cli.base import screen
from weir.runtime import gc_tuning, health, logs
from weir.runtime.signals import stop_on_signals

DIFFERENCE = Gauge(
    "weir_books_difference",
    "Events that the books cannot explain; empty source: records counted by Kafka",
    ["source"],
)
IN_FLIGHT = Gauge(
    "weir_books_in_flight",
    "Events that one stage has counted and the next stage has not counted yet",
    ["source"],
)
AGE = Gauge(
    "weir_books_audit_age_seconds", "Seconds since the last audit with a result, or the start"
)
FAILURES = Counter("weir_books_audit_failures", "Audits that failed")


class AuditWatch:
    """Audits until it is told to stop. If Kafka or ClickHouse is away, it logs that and tries again."""

    def __init__(
        self,
        connect: Callable[[], Auditor],
        part: Callable[[], AuditRange],
        in_json: bool,
        ids: bool,
    ) -> None:
        self._connect = connect
        self._part = part
        self._in_json = in_json
        self._ids = ids
        self._auditor: Auditor | None = None
        self._said = ""
        self._sources: set[str] = set()
        self._judged_at = time.monotonic()
        self._log = logs.get("audit")

    def run(self, every_seconds: float, host: str, port: int) -> None:
        stop: threading.Event = stop_on_signals()
        AGE.set_function(lambda: time.monotonic() - self._judged_at)
        state = health.Health()
        state.ready()
        stop_serving = health.serve(host, port, state)
        gc_tuning.freeze()
        try:
            while not stop.is_set():
                began = time.monotonic()
                self._turn()
                stop.wait(max(0.0, began + every_seconds - time.monotonic()))
        finally:
            self._disconnect()
            stop_serving()

    def _turn(self) -> None:
        try:
            if self._auditor is None:
                self._auditor = self._connect()
            auditor = self._auditor
            part = self._part()
            audit = auditor.read_surely(lambda: auditor.read(part, ids=self._ids))
        except (UnavailableError, RefusedError) as fault:
            FAILURES.inc()
            self._disconnect()
            if self._said != str(fault):
                self._said = str(fault)
                self._log.warning("the books cannot be read", fault=str(fault))
            return
        self._publish(audit)
        self._print_if_changed(audit)

    def _publish(self, audit: Audit) -> None:
        if audit.blind:
            return
        self._judged_at = time.monotonic()
        in_flight = {page.source: page.in_flight for page in audit.pages}
        for source in self._sources - audit.differences.keys():  # the audit no longer covers it
            DIFFERENCE.remove(source)
            IN_FLIGHT.remove(source)
        for source, events in audit.differences.items():
            DIFFERENCE.labels(source).set(events)
            IN_FLIGHT.labels(source).set(in_flight.get(source, 0))
        self._sources = set(audit.differences)

    def _print_if_changed(self, audit: Audit) -> None:
        """Print one line, but only if the result has changed."""
        if self._in_json:
            said = text = as_json(audit)
        else:
            accepted = sum(page.accepted for page in audit.pages)
            notices = [*audit.findings, *audit.partly]
            state = audit.blind or "; ".join(notices) or "the books balance"
            said = state
            text = f"{time.strftime('%F %T', time.gmtime())} {accepted:,} accepted: {state}"
        if said != self._said:
            self._said = said
            screen().print(text, markup=False)

    def _disconnect(self) -> None:
        if self._auditor is not None:
            self._auditor.close()
            self._auditor = None
