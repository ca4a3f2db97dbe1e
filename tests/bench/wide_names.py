"""`python -m tests.bench.wide_names`: what events with thousands of names of their own cost ClickHouse.

Puts them in as the sink does, in ranges that its limits cut, into an engine of its own; meanwhile an ordinary source's
events go in beside them, and each is asked for until it is there. Prints one row of the table in docs/wide-names.md.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import percentile
from tests.support import records as rows
from tests.support.migrated_tables import Tables
from tests.support.running_warehouse import RunningWarehouse, start_warehouse
from weir.settings.sink import SinkSettings
from weir.sink.migrations import apply_migrations
from weir.sink.partition import expanded_size

EVERY_SECONDS = 0.25  # an ordinary event, and a look at the process
ORDINARY_NUMBERS = 10**9


def wide_event(number: int, names: int) -> bytes:
    properties = json.dumps(
        {f"n{number:05}_{name:04}": name % 10 for name in range(names)}, separators=(",", ":")
    )
    return rows.resolved(number, "p", "s", source="wide", properties=properties)


def ranges(events: int, names: int, limits: SinkSettings) -> Iterator[list[bytes]]:
    """As `services/weir/sink/partition.py` cuts them."""
    taken: list[bytes] = []
    size = expanded = 0
    for number in range(events):
        value = wide_event(number, names)
        size, expanded = size + len(value), expanded + expanded_size(value)
        too_large = size > limits.sink_flush_bytes or expanded > limits.sink_flush_expanded_bytes
        if taken and too_large:
            yield taken
            taken, size, expanded = [], len(value), expanded_size(value)
        taken.append(value)
    if taken:
        yield taken


class Beside:
    """What happens while the wide events go in."""

    def __init__(self, warehouse: RunningWarehouse, tables: Tables) -> None:
        self._process = Path("/proc") / str(warehouse.pid)
        self._tables = tables
        self._ended = threading.Event()
        self.waits: list[float] = []
        self.descriptors = 0

    def watch(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self.descriptors = max(self.descriptors, len(os.listdir(self._process / "fd")))

    def send(self) -> None:
        number = ORDINARY_NUMBERS
        while not self._ended.wait(EVERY_SECONDS):
            number += 1
            began = time.monotonic()
            self._tables.insert(
                "landing_events",
                rows.resolved(number, "q", "t", source="ordinary"),
                token=f"ordinary {number}",
            )
            seen = "SELECT count() FROM weir.events WHERE source = 'ordinary'"
            while int(self._tables.one(seen)) < number - ORDINARY_NUMBERS:
                time.sleep(0.01)
            self.waits.append(time.monotonic() - began)

    def end(self) -> None:
        self._ended.set()

    def memory_mb(self) -> int:
        status = (self._process / "status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) // 1_024


def most_files(tables: Tables) -> int:
    paths = tables.ask(
        f"SELECT path FROM system.parts WHERE active AND database = '{tables.database}' AND table = 'events'"
    )
    return max(len(list(Path(path).iterdir())) for (path,) in paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--names", type=int, default=8_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warehouse = start_warehouse(Path(folder))
        try:
            print(measured(warehouse, asked.events, asked.names))
        finally:
            warehouse.stop()


def measured(warehouse: RunningWarehouse, events: int, names: int) -> str:
    tables = Tables(warehouse.url)
    apply_migrations(tables.schema, tables.dialect)
    others = Tables(warehouse.url, tables.database)
    beside = Beside(warehouse, others)
    threads = [threading.Thread(target=target) for target in (beside.watch, beside.send)]
    for thread in threads:
        thread.start()
    began, files, size = time.monotonic(), 0, 0
    try:
        for values in ranges(events, names, SinkSettings()):
            tables.insert("landing_events", *values)
            size += sum(map(len, values))
            files = max(files, most_files(tables))
    finally:
        seconds = time.monotonic() - began
        beside.end()
        for thread in threads:
            thread.join()
    stored = int(tables.one("SELECT count() FROM weir.events WHERE source = 'wide'"))
    assert stored == events, (stored, events)
    p50, p99 = percentile(beside.waits, 0.5), percentile(beside.waits, 0.99)
    return (
        f"| {events:,} × {names:,} names, {size >> 20} MiB | {files} | {beside.descriptors} | {beside.memory_mb()} MiB"
        f" | {seconds:.0f} s | {p50:.2f} s | {p99:.2f} s |"
    )


if __name__ == "__main__":
    main()
