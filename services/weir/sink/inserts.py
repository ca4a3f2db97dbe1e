"""Run inserts and dead-letter writes in threads, several partitions at once, at most one per partition."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from weir.runtime.sink_ports import (
    DeadLettersFailedError,
    DeadRecord,
    Examination,
    Examined,
    Finished,
    Insert,
    LetterWriter,
    PartitionId,
    RowsRefusedError,
    Warehouse,
    WarehouseAwayError,
    WrittenLetters,
)
from weir.sink import metrics

T = TypeVar("T")


class ThreadedInserts:
    """Runs at most `threads` ClickHouse requests at once; `free` allows one more in the queue, so no thread idles."""

    def __init__(self, warehouse: Warehouse, threads: int) -> None:
        self._warehouse = warehouse
        self._threads = threads
        self._places: dict[Future[Any], PartitionId] = {}
        self._pool = ThreadPoolExecutor(threads, "insert")
        self._open: list[Future[Finished]] = []
        self._examining: list[Future[Examined]] = []

    @property
    def free(self) -> int:
        self._places = {f: place for f, place in self._places.items() if not f.done()}
        return self._threads + 1 - len(self._places)

    def abandon(self, place: PartitionId) -> None:
        for future, whose in self._places.items():
            if whose == place:
                future.cancel()  # an insert that is already running goes on, and ends within its timeout

    def start(self, place: PartitionId, insert: Insert) -> None:
        future = self._pool.submit(_run, self._warehouse, place, insert)
        self._places[future] = place
        self._open.append(future)

    def finished(self) -> list[Finished]:
        """See the port."""
        self._open, done = _ended(self._open)
        return done

    def examine(self, place: PartitionId, insert: Insert) -> None:
        future = self._pool.submit(_examine, self._warehouse, place, insert)
        self._places[future] = place
        self._examining.append(future)

    def examined(self) -> list[Examined]:
        self._examining, done = _ended(self._examining)
        return done

    def close(self) -> None:
        """Drop the queued requests and wait for the running ones."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class ThreadedDeadLetters:
    """An executor of dead-letter writes: one write at a time, the others queued in order."""

    def __init__(self, writer: LetterWriter) -> None:
        self._writer = writer
        self._pool = ThreadPoolExecutor(1, "dead-letters")
        self._open: list[Future[WrittenLetters]] = []

    def start(self, place: PartitionId, records: Sequence[DeadRecord]) -> None:
        self._open.append(self._pool.submit(_write_letters, self._writer, place, records))

    def finished(self) -> list[WrittenLetters]:
        """See the port. Raises the thread's unexpected exceptions here, so that they end the process."""
        self._open, done = _ended(self._open)
        return done

    def close(self) -> None:
        """Drop the queued writes and wait for the running one."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _write_letters(
    writer: LetterWriter, place: PartitionId, records: Sequence[DeadRecord]
) -> WrittenLetters:
    try:
        return WrittenLetters(place, records, writer.write(records), None)
    except DeadLettersFailedError as fault:
        return WrittenLetters(place, records, 0, fault)


def _run(warehouse: Warehouse, place: PartitionId, insert: Insert) -> Finished:
    started = time.perf_counter()
    fault: RowsRefusedError | WarehouseAwayError | None = None
    try:
        warehouse.insert(insert)
    except (RowsRefusedError, WarehouseAwayError) as raised:
        fault = raised
    except Exception as raised:  # noqa: BLE001 - an exception of the client must not end the process
        name = type(raised).__name__
        fault = WarehouseAwayError(f"the client failed: {name}: {raised}"[:1_000], name)
    metrics.INSERT_SECONDS.observe(time.perf_counter() - started)
    return Finished(place, insert, fault)


def _examine(warehouse: Warehouse, place: PartitionId, insert: Insert) -> Examined:
    try:
        return Examined(place, insert, warehouse.examine(insert))
    except Exception:  # noqa: BLE001 - as above; then the finding is unknown
        return Examined(place, insert, Examination(ordinary_in=False, rows_in=True))


def _ended(futures: list[Future[T]]) -> tuple[list[Future[T]], list[T]]:
    """Return (unfinished futures, results of the finished ones), without the cancelled ones' results."""
    done = {future for future in futures if future.done()}
    going = [future for future in futures if future not in done]
    return going, [f.result() for f in futures if f in done and not f.cancelled()]
