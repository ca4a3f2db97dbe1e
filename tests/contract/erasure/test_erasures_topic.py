"""Erasures of any size are written whole to their topic by one writer at a time."""

import uuid

import pytest

from tests.support.running import RunningKafka, wait_until
from tests.support.running_gateway import make_topics
from weir.erasure.model import ErasedRows, Erasure
from weir.erasure.topic import ErasureFollower, ErasureWriter, request_erasure
from weir.runtime.ports import FencedError
from weir.settings.shared import KafkaSettings

MANY = 5_000


@pytest.fixture
def settings(kafka: RunningKafka) -> KafkaSettings:
    make_topics(kafka.bootstrap)
    return KafkaSettings(kafka_bootstrap=kafka.bootstrap)


def test_a_large_erasure_is_read_back_whole_and_reduced_to_counts_when_finished(
    settings: KafkaSettings,
) -> None:
    erasure_id = str(uuid.uuid4())
    asked = Erasure(erasure_id, "acme", "user:ada", 1)
    request_erasure(settings, asked)
    follower = ErasureFollower(settings)
    assert follower.erasures.by_id[erasure_id] == asked
    writer = ErasureWriter(settings)
    large = Erasure(
        erasure_id,
        "acme",
        "user:ada",
        1,
        state="counted",
        until=2,
        names=[f"a:{n:05}" + "x" * 250 for n in range(MANY)],
        profiles=[str(uuid.UUID(int=n)) for n in range(MANY)],
        counts=[ErasedRows("events", "", "shop", n * 60_000, 1) for n in range(20 * MANY)],
        barred=bytes(16) * MANY,
    )

    def read() -> Erasure:
        follower.poll(0.1)
        return follower.erasures.by_id[erasure_id]

    writer.write(large)
    wait_until(lambda: read().state == "counted", 30, "the whole of it")
    found = read()
    assert (found.names, found.profiles) == (large.names, large.profiles)
    assert (found.counts, found.barred) == (large.counts, large.barred)
    writer.write_erase_records(found, [*found.names, "u:bob"], 9)
    writer.write(found.finished(3, "hash"))
    wait_until(lambda: read().state == "finished", 30, "the fact alone")
    follower.close()
    again = ErasureFollower(settings)
    fact = again.erasures.by_id[erasure_id]
    again.close()
    assert (fact.names, fact.profiles, fact.subject) == ([], [], "")
    assert fact.counts == large.counts
    ErasureWriter(settings)
    with pytest.raises(FencedError):
        writer.write(fact)
