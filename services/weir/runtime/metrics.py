"""The Prometheus metrics of a worker."""

from prometheus_client import Counter, Gauge, Histogram

RECORDS_IN = Counter("weir_records_in", "Records read from the input topic", ["service"])
RECORDS_OUT = Counter("weir_records_out", "Records by outcome", ["service", "outcome"])
BATCH_SECONDS = Histogram(
    "weir_batch_seconds",
    "Seconds from the return of a poll to the end of the commit",
    ["service"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
COMMIT_FAILURES = Counter(
    "weir_commit_failures", "Transactions that failed and were discarded", ["service"]
)
DEAD = Counter("weir_dead_records", "Records that became dead letters", ["service", "reason"])
LETTERS_CUT = Counter(
    "weir_dead_letters_cut", "Dead letters of records too large to be stored whole", ["service"]
)
STALLED = Gauge(
    "weir_stalled_seconds",
    "Seconds since the last progress while records wait; 0 if no record waits",
    ["service"],
)
LAG_RECORDS = Gauge(
    "weir_lag_records",
    "Waiting records, including those behind an open transaction; reported by the partition's owner",
    ["service", "partition"],
)
LAG_SECONDS = Gauge(
    "weir_lag_seconds",
    "Seconds that the oldest waiting record has waited; 0 if no record waits",
    ["service"],
)
RESTORED = Counter(
    "weir_restored_entries", "State entries replayed from the changelog", ["service"]
)
RESTORING = Gauge(
    "weir_restoring_partitions", "Partitions whose state is being restored", ["service"]
)
RESTORE_DONE = Gauge(
    "weir_restore_done_records", "Changelog records replayed by the running restore", ["service"]
)
RESTORE_LEFT = Gauge(
    "weir_restore_left_records",
    "Changelog records that the running restore has yet to replay",
    ["service"],
)
