"""Why a worker could not process a record: the closed set that dead letters and metrics use."""

UNREADABLE = "unreadable"  # not in a schema of ours, or cut short
UNEXPECTED = "unexpected_record"  # a record of ours that has no business in this topic
REFUSED_BY_CLICKHOUSE = "refused_by_clickhouse"
