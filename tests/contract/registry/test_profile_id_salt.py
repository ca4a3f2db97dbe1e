"""The salt of profile ids is created only once on a real broker, even by concurrent creators."""

from concurrent.futures import ThreadPoolExecutor

from tests.support.running import RunningKafka
from weir.adapters.errors import RefusedError
from weir.adapters.kafka.admin import KafkaAdmin, Topic
from weir.core import topics
from weir.core.identifiers import ProfileIds
from weir.registry.profile_id_salt import ensure_salt, read_profile_ids
from weir.settings.shared import KafkaSettings

MAKERS = 4


def make(settings: KafkaSettings) -> ProfileIds | None:
    """What it has come to for whoever applied the topics."""
    try:
        ensure_salt(settings, legacy=True)
    except RefusedError:  # another one makes it: whoever asks again finds it
        return None
    return read_profile_ids(settings)


def test_concurrent_creators_of_the_profile_id_salt_all_read_the_same_salt(
    empty_kafka: RunningKafka,
) -> None:
    settings = KafkaSettings(kafka_bootstrap=empty_kafka.bootstrap)
    admin = KafkaAdmin(settings)
    admin.create([Topic(topics.REGISTRY, 1, 1, {"cleanup.policy": "compact"})])
    admin.close()
    assert read_profile_ids(settings) is None
    with ThreadPoolExecutor(MAKERS) as pool:
        made = set(pool.map(make, [settings] * MAKERS)) - {None}
    assert len(made) == 1
    assert not ensure_salt(settings, legacy=False)
    (ids,) = made
    assert read_profile_ids(settings) == ids
    assert ids is not None
    assert ids.legacy
    assert len(ids.salt) == 32
