"""Inserts under way, in threads: one a partition at most, several partitions at once."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from services.sink import metrics
from services.sink.ports import (
    Finished,
    Insert,
    Place,
    RowsRefusedError,
    Warehouse,
    WarehouseAwayError,
)


class ThreadedInserts:
    """At most `threads` requests to ClickHouse at once; the others wait in order."""

    def __init__(self, warehouse: Warehouse, threads: int) -> None:
        self._warehouse = warehouse
        self._pool = ThreadPoolExecutor(threads, "insert")
        self._open: list[Future[Finished]] = []

    def start(self, place: Place, insert: Insert) -> None:
        self._open.append(self._pool.submit(_run, self._warehouse, place, insert))

    def finished(self) -> list[Finished]:
        """See the port. What a thread did not expect is raised here, and ends the process."""
        done = [future for future in self._open if future.done()]
        if done:
            self._open = [future for future in self._open if future not in done]
        return [future.result() for future in done]

    def close(self) -> None:
        """Those that wait are dropped; those under way are waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _run(warehouse: Warehouse, place: Place, insert: Insert) -> Finished:
    started = time.perf_counter()
    fault: RowsRefusedError | WarehouseAwayError | None = None
    try:
        warehouse.insert(insert)
    except (RowsRefusedError, WarehouseAwayError) as raised:
        fault = raised
    metrics.INSERT_SECONDS.observe(time.perf_counter() - started)
    return Finished(place, insert, fault)
