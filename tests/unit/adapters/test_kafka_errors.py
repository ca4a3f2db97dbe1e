"""Kafka client errors are classified as replaced by another process, fatal, or transient."""

import pytest
from confluent_kafka import KafkaError

from weir.adapters.kafka.clients import is_fatal, is_replaced


def fatal(reason: int) -> KafkaError:
    """As a consumer tells it: the reason's own code is lost, and only its text is left."""
    text = KafkaError(reason).str()
    return KafkaError(KafkaError._FATAL, f"Fatal error: {text}: it was told so")


def test_a_fenced_static_member_counts_as_replaced() -> None:
    assert is_replaced(KafkaError(KafkaError.FENCED_INSTANCE_ID))
    assert is_replaced(fatal(KafkaError.FENCED_INSTANCE_ID))


@pytest.mark.parametrize(
    "reason",
    [
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.INVALID_PRODUCER_EPOCH,
    ],
)
def test_other_fatal_errors_do_not_count_as_replaced(reason: int) -> None:
    assert not is_replaced(fatal(reason))
    assert not is_replaced(KafkaError(reason))
    assert is_fatal(fatal(reason))


def test_a_transient_error_is_not_fatal() -> None:
    for code in (
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._MAX_POLL_EXCEEDED,
    ):
        assert not is_fatal(KafkaError(code))
