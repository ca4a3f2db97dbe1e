"""Measure the time from the gateway's 202 to the first query that returns the event."""

import http.client
import json
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from tests.bench.input import Sent, sent_events, write_key
from tests.bench.measure import percentile

POLL_SECONDS = 0.05
WATCHED_A_SECOND = 200  # of the events; so that the watching costs little
REQUESTS_A_SECOND = 200  # beyond it events travel together
CONNECTIONS = 16
BEHIND_SECONDS = 30.0  # how long the last ones are waited for
OVERLAP_MS = 2_000  # inserts may be seen in another order than they were begun


class Watcher:
    """Asks ClickHouse again and again which events it sees, and remembers when it first saw each.

    The time is that of the whole answer's arrival: never too early, late by an interval at most.
    """

    def __init__(self, port: int, one_in: int) -> None:
        self.seen: dict[bytes, float] = {}
        self.asked = 0
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._one_in = one_in
        self._latest = int(time.time() * 1_000)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._fault: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()
        if self._fault is not None:
            raise self._fault

    def _watch(self) -> None:
        try:
            while not self._over.is_set():
                began = time.time()
                self._look()
                self._over.wait(max(0.0, POLL_SECONDS - (time.time() - began)))
        except (OSError, http.client.HTTPException, RuntimeError) as fault:
            self._fault = fault

    def _look(self) -> None:
        """16 bytes of id and 8 of time a row, the latest rows only."""
        sql = (
            "SELECT toFixedString(UUIDStringToNum(toString(event_id)), 16),"
            " toUnixTimestamp64Milli(inserted_at)"
            " FROM weir.events"
            f" WHERE inserted_at >= fromUnixTimestamp64Milli({self._latest - OVERLAP_MS})"
            f" AND received_at >= fromUnixTimestamp64Milli({self._latest - 60_000})"
            f" AND {watched_sql(self._one_in)} FORMAT RowBinary SETTINGS max_threads = 1"
        )
        self._connection.request("POST", "/", sql)
        answer = self._connection.getresponse()
        rows = answer.read()
        now = time.time()
        if answer.status != 200:
            raise RuntimeError(f"the warehouse does not answer: {rows[:500]!r}")
        self.asked += 1
        for at in range(0, len(rows), 24):
            self.seen.setdefault(rows[at : at + 16], now)
            self._latest = max(self._latest, int.from_bytes(rows[at + 16 : at + 24], "little"))


def watched_sql(one_in: int) -> str:
    return f"reinterpretAsUInt8(reverse(UUIDStringToNum(toString(event_id)))) % {one_in} = 0"


def is_watched(event_id: bytes, one_in: int) -> bool:
    return event_id[-1] % one_in == 0


def measure_latency(
    gateway_port: int, clickhouse_port: int, rate: int, seconds: float, seed: int
) -> dict[str, Any]:
    """Send `rate` events/s for `seconds`; from each 202 to the first query that sees the event."""
    one_in = max(1, rate // WATCHED_A_SECOND)
    watcher = Watcher(clickhouse_port, one_in)
    watcher.start()
    try:
        accepted, late = _send(gateway_port, rate, seconds, one_in, seed)
        deadline = time.monotonic() + BEHIND_SECONDS
        while not accepted.keys() <= watcher.seen.keys() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    finally:
        watcher.stop()
    waits = [watcher.seen[event] - at for event, at in accepted.items() if event in watcher.seen]
    return {
        "rate": rate,
        "events": int(rate * seconds),
        "watched": len(accepted),
        "missing": len(accepted) - len(waits),
        "p50": percentile(waits, 0.5),
        "p99": percentile(waits, 0.99),
        "worst": max(waits, default=float("nan")),
        "looks_a_second": watcher.asked / seconds,
        "sender_late_seconds": late,
    }


def _send(
    port: int, rate: int, seconds: float, one_in: int, seed: int
) -> tuple[dict[bytes, float], float]:
    """When each watched event's 202 was there, and how far behind its plan the sender was at worst."""
    per_request = max(1, rate // REQUESTS_A_SECOND)
    sender = _Sender(port, _bodies(int(rate * seconds), per_request, seed), per_request / rate)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        for finished in [threads.submit(sender.run) for _ in range(CONNECTIONS)]:
            finished.result()
    watched = {event: at for event, at in sender.accepted.items() if is_watched(event, one_in)}
    return watched, sender.late


class _Sender:
    """Sends requests at their planned times, on as many connections as `run` has threads."""

    def __init__(self, port: int, bodies: Iterator[tuple[str, bytes]], every: float) -> None:
        self.accepted: dict[bytes, float] = {}
        self.late = 0.0
        self._port = port
        self._plan = enumerate(list(bodies))
        self._every = every
        self._began = time.time()
        self._lock = threading.Lock()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            while True:
                with self._lock:
                    number, request = next(self._plan, (0, None))
                if request is None:
                    return
                due = self._began + number * self._every
                time.sleep(max(0.0, due - time.time()))
                self.late = max(self.late, time.time() - due)
                self._send(connection, *request)
        finally:
            connection.close()

    def _send(self, connection: http.client.HTTPConnection, source: str, body: bytes) -> None:
        key, kind = write_key(source), "application/json"
        headers = {"Authorization": f"Bearer {key}", "Content-Type": kind}
        connection.request("POST", "/v1/events", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        now = time.time()
        if answer.status != 202:
            raise RuntimeError(f"the gateway answered {answer.status}: {text[:500]!r}")
        for event_id in json.loads(text)["event_ids"]:
            self.accepted[uuid.UUID(event_id).bytes] = now


def _bodies(count: int, per_request: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Requests of events of one source each; no repeats, which would never be seen."""
    events = sent_events(count * 2, int(time.time() * 1_000), people=count, seed=seed)
    waiting: dict[str, list[bytes]] = {}
    keys: set[str] = set()

    def fresh(sent: Sent) -> bool:
        known = sent.idempotency_key in keys
        keys.add(sent.idempotency_key)
        return not known

    for sent in islice(filter(fresh, events), count):
        bodies = waiting.setdefault(sent.source, [])
        bodies.append(sent.body)
        if len(bodies) == per_request:
            yield sent.source, b"[" + b",".join(bodies) + b"]"
            bodies.clear()
