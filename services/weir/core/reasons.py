"""Reasons why a record could not be processed: the closed set that dead letters and metrics use."""

UNREADABLE = "unreadable"  # not in one of Weir's schemas, or truncated
UNEXPECTED = "unexpected_record"  # one of Weir's records, but in the wrong topic
TOO_LARGE = "too_large"  # an output of the record exceeds the limit of its topic
STEP_FAILED = "step_failed"  # the step raises an exception for the record
# brokers refuse the record's outputs but take other records
REFUSED_BY_KAFKA = "refused_by_kafka"
REFUSED_BY_CLICKHOUSE = "refused_by_clickhouse"
