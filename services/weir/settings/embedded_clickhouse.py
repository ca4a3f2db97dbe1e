"""Settings of the embedded ClickHouse: defaults for 2 cores and an engine of at most 2 GiB."""

from dataclasses import dataclass

from weir.settings.environment import at_least, setting


@dataclass(frozen=True)
class WarehouseSettings:
    warehouse_query_threads: int = setting(
        4,
        "maximum number of queries that run at once; further ones wait",
        "queries",
        check=at_least(1),
    )
    warehouse_insert_threads: int = setting(
        2,
        "maximum number of inserts that run at once, apart from queries",
        "inserts",
        check=at_least(1),
    )
    warehouse_max_waiting: int = setting(
        64,
        "maximum number of requests that wait in each lane; above it: 503",
        "requests",
        check=at_least(0),
    )
    warehouse_max_threads: int = setting(
        2, "engine threads for one query", "threads", check=at_least(1)
    )
    warehouse_max_memory: int = setting(
        1_610_612_736,
        "memory limit of the whole engine; a statement that exceeds it fails",
        "bytes",
        check=at_least(1),
    )
    warehouse_max_query_memory: int = setting(
        805_306_368,
        "memory limit of one read; a read that exceeds it fails",
        "bytes",
        check=at_least(1),
    )
    warehouse_mark_cache: int = setting(
        67_108_864, "size of the mark cache, and of the primary index cache", "bytes"
    )
    warehouse_merge_threads: int = setting(
        2, "engine threads that merge parts", "threads", check=at_least(1)
    )
    warehouse_max_execution: float = setting(
        60.0,
        "time limit of a read, unless the request sets `max_execution_time`; 0: no limit",
        "seconds",
    )
    warehouse_max_request: int = setting(
        134_217_728, "largest request body, decompressed", "bytes", check=at_least(1)
    )
    warehouse_max_requests: int = setting(
        402_653_184,
        "maximum size of all request bodies in memory; above it: 503",
        "bytes",
        check=at_least(1),
    )
    warehouse_max_result: int = setting(
        268_435_456,
        "largest result in a format that cannot be streamed",
        "bytes",
        check=at_least(1),
    )
    warehouse_buffer: int = setting(
        4_194_304,
        "part of a result that is held back, so that a late error still gets its HTTP status",
        "bytes",
    )
    warehouse_send: float = setting(
        30.0, "time limit for a client to read the next piece of a result", "seconds"
    )
    warehouse_drain: float = setting(
        30.0, "time that running inserts get to finish at shutdown", "seconds"
    )
