"""Settings of the sink."""

from dataclasses import dataclass

from weir.settings.environment import at_least, between, setting


@dataclass(frozen=True)
class SinkSettings:
    sink_flush_seconds: float = setting(
        0.5, "an event waits at most this long for its insert", "s", check=between(0, 20)
    )
    sink_side_flush_seconds: float = setting(
        2.0,
        "the same for what is not an event: duplicates, usage, profiles, …",
        "s",
        check=between(0, 20),
    )
    sink_flush_rows: int = setting(50_000, "most rows in one insert", "rows", check=at_least(1))
    sink_flush_bytes: int = setting(
        12_582_912, "most bytes in one insert; a larger row goes alone", "bytes", check=at_least(1)
    )
    sink_flush_expanded_bytes: int = setting(
        201_326_592,
        "most memory that the rows of one insert take in ClickHouse, estimated; a larger row goes alone",
        "bytes",
        check=at_least(1),
    )
    sink_insert_memory: int = setting(
        335_544_320,
        "memory that ClickHouse gives one insert; what exceeds it is split, at last down to the row; 0: no limit",
        "bytes",
        check=at_least(0),
    )
    sink_buffer_bytes: int = setting(
        25_165_824,
        "records held at most, then reading pauses; partitions that take long hold up to four times as much besides",
        "bytes",
        check=at_least(1),
    )
    sink_insert_threads: int = setting(2, "inserts at once", "inserts", check=at_least(1))
    sink_insert_timeout: float = setting(
        120.0, "after that ClickHouse ends an insert, and it is tried again", "s", check=at_least(1)
    )
    sink_retry_seconds: float = setting(
        5.0, "longest pause before an insert is tried again", "s", check=at_least(0.1)
    )
    sink_compress: bool = setting(False, "send inserts in zstd; pays over a network")
