"""One rebuild at a time, by the word of a real broker."""

import pytest

from tests.running import RunningKafka
from weir.adapters.kafka.admin import KafkaAdmin, Topic
from weir.adapters.kafka.transactions import ReplacedError
from weir.backfill.exclusive_lease import ExclusiveLease
from weir.core import topics
from weir.settings.shared import KafkaSettings


def test_the_latest_has_the_turn(kafka: RunningKafka) -> None:
    settings = KafkaSettings(kafka_bootstrap=kafka.bootstrap)
    admin = KafkaAdmin(settings)
    admin.create([Topic(topics.PROBE, 1, 1)])
    admin.close()
    first = ExclusiveLease(settings)
    first.require()
    first.require()
    second = ExclusiveLease(settings)
    with pytest.raises(ReplacedError, match="Another replay has started"):
        first.require()
    second.require()
