"""Inserts under way, in threads: one a partition at most, several partitions at once."""

import queue
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from services.sink import metrics
from services.sink.ports import Insert, RowsRefusedError, Warehouse, WarehouseAwayError
from services.sink.ranges import Range


class Finished(NamedTuple):
    """What an insert came to; no fault: its rows are in."""

    range: Range
    insert: Insert
    fault: RowsRefusedError | WarehouseAwayError | None


class Inserts(Protocol):
    def start(self, range_: Range, insert: Insert) -> None: ...

    def finished(self) -> list[Finished]:
        """Those that ended since the last call."""


class ThreadedInserts:
    """At most `threads` requests to ClickHouse at once; the others wait in order."""

    def __init__(self, warehouse: Warehouse, threads: int) -> None:
        self._warehouse = warehouse
        self._pool = ThreadPoolExecutor(threads, "insert")
        self._finished: queue.SimpleQueue[Finished] = queue.SimpleQueue()

    def start(self, range_: Range, insert: Insert) -> None:
        self._pool.submit(self._run, range_, insert)

    def finished(self) -> list[Finished]:
        done = []
        while not self._finished.empty():
            done.append(self._finished.get())
        return done

    def close(self) -> None:
        """Those that wait are dropped; those under way are waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, range_: Range, insert: Insert) -> None:
        started = time.perf_counter()
        fault: RowsRefusedError | WarehouseAwayError | None = None
        try:
            self._warehouse.insert(insert)
        except (RowsRefusedError, WarehouseAwayError) as raised:
            fault = raised
        except Exception as raised:  # noqa: BLE001  # a thread's fault must not vanish with it
            fault = WarehouseAwayError(f"{type(raised).__name__}: {raised}")
        metrics.INSERT_SECONDS.observe(time.perf_counter() - started)
        self._finished.put(Finished(range_, insert, fault))
