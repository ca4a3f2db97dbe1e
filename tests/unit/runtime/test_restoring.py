"""State is restored in pieces while the worker polls its group and processes restored partitions."""

from collections.abc import Mapping

import pytest

from tests.support.events import accepted, accepted_output
from weir.adapters import usage_records
from weir.adapters.dead_letters import worker_letters
from weir.adapters.memory import MemoryChangelogReader, MemoryLog, MemoryStores, MemoryStream
from weir.core import topics
from weir.core.batch import Batch, Output
from weir.dedup.stage import DedupStage
from weir.runtime.changelog import PackedChangelog
from weir.runtime.deciding import AccountEncoders
from weir.runtime.ports import Store, StorePositions, StreamBrokenError
from weir.runtime.restoring import Restoring
from weir.runtime.worker import Worker

CHANGELOG = PackedChangelog(topics.DEDUP_STATE)
RECORDS = {0: 9, 1: 4}  # changelog records of each partition


class CountingStream(MemoryStream):
    polls = 0
    broken = False

    def poll(self, seconds: float) -> list[Batch]:
        self.polls += 1
        return super().poll(seconds)

    def changelog(self, topic: str, starts: Mapping[int, int]) -> MemoryChangelogReader:
        if self.broken:
            raise StreamBrokenError("no broker")
        return super().changelog(topic, starts)


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog(2)
    for partition, records in RECORDS.items():
        for number in range(records):
            changes = {b"%d/%d" % (partition, number): bytes(8)}
            log.write(topics.DEDUP_STATE, CHANGELOG.encode(changes), partition)
        log.offsets["weir.dedup", topics.ACCEPTED, partition] = 0
    return log


@pytest.fixture
def stream(log: MemoryLog) -> CountingStream:
    return CountingStream(log, "weir.dedup", topics.ACCEPTED)


def begun(stream: CountingStream, stores: MemoryStores) -> Restoring:
    restoring = Restoring("dedup", stream, stores, CHANGELOG)
    restoring.begin({0: 5, 1: 6})
    return restoring


def keys_of(partition: int) -> list[bytes]:
    return [b"%d/%d" % (partition, number) for number in range(RECORDS[partition])]


def test_partitions_are_restored_in_parallel_and_the_shorter_one_ends_first(
    stream: CountingStream,
) -> None:
    restoring = begun(stream, MemoryStores())
    assert restoring.advance(0) == {}
    assert restoring.progress == (
        "restoring 2 partitions from dedup.state: 4 records done, 9 to do"
    )
    whole = restoring.advance(0)
    assert whole.keys() == {1}
    assert whole[1].load(keys_of(1)).keys() == set(keys_of(1))
    assert whole[1].positions() == StorePositions(6, 4)
    while restoring:
        whole |= restoring.advance(0)
    assert whole[0].load(keys_of(0)).keys() == set(keys_of(0))
    assert whole[0].positions() == StorePositions(5, 9)


def test_a_later_restore_continues_after_the_records_already_replayed(
    stream: CountingStream,
) -> None:
    stores = MemoryStores()
    restoring = begun(stream, stores)
    restoring.advance(0)
    restoring.close()
    assert not restoring
    restoring.begin({0: 5})
    restoring.advance(0)
    assert restoring.progress.endswith("2 records done, 5 to do")


def test_a_partition_lost_during_the_restore_is_dropped_and_the_other_continues(
    stream: CountingStream,
) -> None:
    restoring = begun(stream, MemoryStores())
    restoring.advance(0)
    restoring.drop({0, 7})
    whole: dict[int, Store] = {}
    while restoring:
        whole |= restoring.advance(0)
    assert whole.keys() == {1}


def test_the_worker_polls_and_processes_other_partitions_during_a_restore(
    log: MemoryLog, stream: CountingStream
) -> None:
    log.write(topics.DEDUP_STATE, CHANGELOG.encode({b"k%d" % n: bytes(8) for n in range(9)}), 0)
    stores = MemoryStores()
    stores.open(1).apply({}, StorePositions(0, RECORDS[1]))  # it lacks nothing
    log.write(topics.ACCEPTED, [accepted_output(accepted(1))], 1)
    worker = Worker(
        DedupStage(),
        stream,
        stores,
        CHANGELOG,
        AccountEncoders(usage_records.encode_usage, worker_letters),
    )
    stores.open(0).apply({}, StorePositions(-1, 0))  # as a crash leaves it
    log.offsets["weir.dedup", topics.ACCEPTED, 0] = 1
    stream.assign({0, 1})
    settled = worker.turn(0)
    assert worker.health.why_unready.startswith("restoring 1 partitions from dedup.state: 2")
    while worker.health.why_unready:
        settled += worker.turn(0)
    assert stream.polls >= 5
    assert settled == 1
    assert [record.key for record in log.records(topics.UNIQUE)] != []


def test_the_worker_recovers_from_a_broker_failure_during_a_restore(
    log: MemoryLog, stream: CountingStream
) -> None:
    worker = Worker(
        DedupStage(),
        stream,
        MemoryStores(),
        CHANGELOG,
        AccountEncoders(usage_records.encode_usage, worker_letters),
    )
    log.write(topics.ACCEPTED, [Output(b"", b"")], 0)
    stream.assign({0, 1})
    stream.broken = True
    with pytest.raises(StreamBrokenError):
        worker.turn(0)
    stream.broken = False
    worker.recover()
    while worker.turn(0) == 0:
        pass
    assert worker.health.why_unready == ""
