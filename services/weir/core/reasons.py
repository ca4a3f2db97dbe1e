"""Why a worker could not process a record: the closed set that dead letters and metrics use."""

UNREADABLE = "unreadable"  # not in a schema of ours, or cut short
UNEXPECTED = "unexpected_record"  # a record of ours that has no business in this topic
TOO_LARGE = "too_large"  # what came of it exceeds the limit of a topic
STEP_FAILED = "step_failed"  # deciding about it raises an exception
REFUSED_BY_KAFKA = (
    "refused_by_kafka"  # brokers do not take what comes of it, and take other records
)
REFUSED_BY_CLICKHOUSE = "refused_by_clickhouse"
