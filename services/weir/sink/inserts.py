"""Inserts and dead letters under way, in threads: one a partition at most, several partitions at once."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from weir.runtime.sink_ports import (
    Buried,
    DeadLettersFailedError,
    DeadRecord,
    Examination,
    Examined,
    Finished,
    Insert,
    LetterWriter,
    Place,
    RowsRefusedError,
    Warehouse,
    WarehouseAwayError,
)
from weir.sink import metrics

T = TypeVar("T")


class ThreadedInserts:
    """At most `threads` requests to ClickHouse at once, and one that waits so that no thread does."""

    def __init__(self, warehouse: Warehouse, threads: int) -> None:
        self._warehouse = warehouse
        self._threads = threads
        self._places: dict[Future[Any], Place] = {}
        self._pool = ThreadPoolExecutor(threads, "insert")
        self._open: list[Future[Finished]] = []
        self._examining: list[Future[Examined]] = []

    @property
    def free(self) -> int:
        self._places = {f: place for f, place in self._places.items() if not f.done()}
        return self._threads + 1 - len(self._places)

    def abandon(self, place: Place) -> None:
        for future, whose in self._places.items():
            if whose == place:
                future.cancel()  # one that runs goes on, and ends within its time

    def start(self, place: Place, insert: Insert) -> None:
        future = self._pool.submit(_run, self._warehouse, place, insert)
        self._places[future] = place
        self._open.append(future)

    def finished(self) -> list[Finished]:
        """See the port."""
        self._open, done = _ended(self._open)
        return done

    def examine(self, place: Place, insert: Insert) -> None:
        future = self._pool.submit(_examine, self._warehouse, place, insert)
        self._places[future] = place
        self._examining.append(future)

    def examined(self) -> list[Examined]:
        self._examining, done = _ended(self._examining)
        return done

    def close(self) -> None:
        """Those that wait are dropped; those under way are waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class ThreadedDeadLetters:
    """One write at a time; the others wait in order."""

    def __init__(self, writer: LetterWriter) -> None:
        self._writer = writer
        self._pool = ThreadPoolExecutor(1, "dead-letters")
        self._open: list[Future[Buried]] = []

    def start(self, place: Place, records: Sequence[DeadRecord]) -> None:
        self._open.append(self._pool.submit(_bury, self._writer, place, records))

    def finished(self) -> list[Buried]:
        """See the port. What the thread did not expect is raised here, and ends the process."""
        self._open, done = _ended(self._open)
        return done

    def close(self) -> None:
        """Those that wait are dropped; the one under way is waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _bury(writer: LetterWriter, place: Place, records: Sequence[DeadRecord]) -> Buried:
    try:
        return Buried(place, records, writer.write(records), None)
    except DeadLettersFailedError as fault:
        return Buried(place, records, 0, fault)


def _run(warehouse: Warehouse, place: Place, insert: Insert) -> Finished:
    started = time.perf_counter()
    fault: RowsRefusedError | WarehouseAwayError | None = None
    try:
        warehouse.insert(insert)
    except (RowsRefusedError, WarehouseAwayError) as raised:
        fault = raised
    except Exception as raised:  # noqa: BLE001 - what a client raises is no reason to end
        name = type(raised).__name__
        fault = WarehouseAwayError(f"the client failed: {name}: {raised}"[:1_000], name)
    metrics.INSERT_SECONDS.observe(time.perf_counter() - started)
    return Finished(place, insert, fault)


def _examine(warehouse: Warehouse, place: Place, insert: Insert) -> Examined:
    try:
        return Examined(place, insert, warehouse.examine(insert))
    except Exception:  # noqa: BLE001 - as above; nothing is known then
        return Examined(place, insert, Examination(ordinary_in=False, rows_in=True))


def _ended(futures: list[Future[T]]) -> tuple[list[Future[T]], list[T]]:
    """Those that go on, and the results of the others."""
    done = {future for future in futures if future.done()}
    going = [future for future in futures if future not in done]
    return going, [f.result() for f in futures if f in done and not f.cancelled()]
