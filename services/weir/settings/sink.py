"""Settings of the sink."""

from dataclasses import dataclass

from weir.settings.environment import at_least, between, setting


@dataclass(frozen=True)
class SinkSettings:
    sink_flush_seconds: float = setting(
        0.5, "longest time that an event waits for its insert", "s", check=between(0, 20)
    )
    sink_side_flush_seconds: float = setting(
        2.0,
        "longest time that other records wait: duplicates, usage, profiles, …",
        "s",
        check=between(0, 20),
    )
    sink_flush_rows: int = setting(
        50_000, "maximum number of rows in one insert", "rows", check=at_least(1)
    )
    sink_flush_bytes: int = setting(
        12_582_912,
        "maximum size of one insert; a larger row is inserted alone",
        "bytes",
        check=at_least(1),
    )
    sink_flush_expanded_bytes: int = setting(
        201_326_592,
        "maximum memory for the rows of one insert in ClickHouse, estimated; a larger row is inserted alone",
        "bytes",
        check=at_least(1),
    )
    sink_insert_memory: int = setting(
        335_544_320,
        "memory limit of one insert in ClickHouse; a larger insert is split, at last into single rows; 0: no limit",
        "bytes",
        check=at_least(0),
    )
    sink_buffer_bytes: int = setting(
        25_165_824,
        "maximum size of the records in memory, then reading pauses; slow partitions may hold four times as much more",
        "bytes",
        check=at_least(1),
    )
    sink_insert_threads: int = setting(
        2, "maximum number of inserts at once", "inserts", check=at_least(1)
    )
    sink_insert_timeout: float = setting(
        120.0,
        "time after which ClickHouse ends an insert, which is then tried again",
        "s",
        check=at_least(1),
    )
    sink_retry_seconds: float = setting(
        5.0, "longest pause between two attempts of an insert", "s", check=at_least(0.1)
    )
    sink_compress: bool = setting(False, "compress inserts with zstd; useful over a network")
