"""Only one rebuild runs at a time, and a real broker enforces it."""

import pytest

from tests.support.running import RunningKafka
from weir.adapters.kafka.admin import KafkaAdmin, Topic
from weir.adapters.kafka.transactions import ReplacedError
from weir.backfill.exclusive_lease import ExclusiveLease
from weir.core import topics
from weir.settings.shared import KafkaSettings


def test_the_latest_rebuild_holds_the_lease_and_the_earlier_one_is_refused(
    kafka: RunningKafka,
) -> None:
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
