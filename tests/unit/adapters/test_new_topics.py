"""The partition lookup waits for a topic just created and fails for one that stays unknown."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from weir.adapters.kafka import clients
from weir.adapters.kafka.clients import partitions_of

UNKNOWN = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
DENIED = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)


class AnsweringConsumer:
    """A consumer whose metadata requests get these errors in turn; the last one is given again and again."""

    def __init__(self, *errors: KafkaError | None) -> None:
        self.errors: Sequence[KafkaError | None] = errors
        self.asked = 0

    def list_topics(self, topic: str, timeout: float) -> Any:
        error = self.errors[min(self.asked, len(self.errors) - 1)]
        self.asked += 1
        found = SimpleNamespace(error=error, partitions={} if error else {0: None, 1: None})
        return SimpleNamespace(topics={topic: found})


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir.adapters.kafka.retry.PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(clients, "SPREADING_SECONDS", 0.05)


def test_partitions_of_retries_until_the_topic_is_known() -> None:
    consumer: Any = AnsweringConsumer(UNKNOWN, UNKNOWN, None)
    assert partitions_of(consumer, "new", 10) == {0, 1}
    assert consumer.asked == 3


@pytest.mark.parametrize(("error", "repeated"), [(UNKNOWN, True), (DENIED, False)])
def test_partitions_of_raises_for_a_topic_that_stays_unknown_or_is_denied(
    error: KafkaError, repeated: bool
) -> None:
    consumer: Any = AnsweringConsumer(error)
    with pytest.raises(KafkaException) as raised:
        partitions_of(consumer, "missing", 10)
    assert raised.value.args[0].code() == error.code()
    assert (consumer.asked > 1) is repeated
