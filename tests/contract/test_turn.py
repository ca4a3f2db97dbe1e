"""One rebuild at a time, by the word of a real broker."""

import pytest

from services.core import topics
from services.edge.kafka_admin import KafkaAdmin, Topic
from services.edge.kafka_transactions import ReplacedError
from services.edge.kafka_turn import Turn
from services.runtime.config import KafkaSettings
from tests.running import RunningKafka


def test_the_latest_has_the_turn(kafka: RunningKafka) -> None:
    settings = KafkaSettings(kafka_bootstrap=kafka.bootstrap)
    admin = KafkaAdmin(settings)
    admin.create([Topic(topics.PROBE, 1, 1)])
    admin.close()
    first = Turn(settings)
    first.require()
    first.require()
    second = Turn(settings)
    with pytest.raises(ReplacedError, match="Another replay has begun"):
        first.require()
    second.require()
