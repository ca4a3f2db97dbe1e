"""The sink's own metrics. It shares those for records read, dead letters and lag with the other workers."""

from prometheus_client import Counter, Gauge, Histogram

ROWS = Counter(
    "weir_sink_rows", "Rows inserted, including repeats that ClickHouse dropped", ["table"]
)
INSERT_SECONDS = Histogram(
    "weir_sink_insert_seconds",
    "Duration of one insert",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
INSERT_RETRIES = Counter(
    "weir_sink_insert_retries", "Inserts that ClickHouse could not accept at the time"
)
REFUSED = Counter(
    "weir_sink_refused_inserts",
    "Inserts that ClickHouse refused for a row, which is then searched for",
)
LOST = Counter(
    "weir_sink_unwritable_dead_letters",
    "Dead letters that cannot be inserted: they are only in events.dead",
)
COMMIT_FAILURES = Counter("weir_sink_commit_failures", "Commits that the broker did not accept")
BUFFERED_BYTES = Gauge(
    "weir_sink_buffered_bytes", "Bytes of records that were read and are not inserted yet"
)
HELD = Gauge("weir_sink_held", "1 while reading pauses because the buffer is full")
