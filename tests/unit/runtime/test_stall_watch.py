"""A service without progress while records wait is not ready and says why."""

import threading

import pytest
from prometheus_client import REGISTRY

from tests.property.test_worker import FaultyStream
from tests.support.events import accepted, accepted_output
from weir.adapters import usage_records
from weir.adapters.dead_letters import worker_letters
from weir.adapters.memory import MemoryLog, MemoryStores, MemoryStream
from weir.core import topics
from weir.core.batch import Batch, BatchResult, Load
from weir.dedup.stage import DedupStage
from weir.runtime.changelog import PackedChangelog
from weir.runtime.deciding import AccountEncoders
from weir.runtime.health import Health
from weir.runtime.ports import StreamBrokenError
from weir.runtime.stall_watch import STALLED_SECONDS, StallWatch
from weir.runtime.worker import Worker

PLACE = "partition 0"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> StallWatch:
    return StallWatch("tested", clock=clock)


def test_an_idle_service_stays_ready(clock: Clock, progress: StallWatch) -> None:
    health = Health(progress)
    health.ready()
    progress.waits({PLACE: 0})
    clock.now += 10 * STALLED_SECONDS
    assert health.why_unready == ""


def test_a_service_without_progress_while_records_wait_is_not_ready(
    clock: Clock, progress: StallWatch
) -> None:
    health = Health(progress)
    health.ready()
    progress.waits({PLACE: 1_234})
    clock.now += STALLED_SECONDS - 1
    assert health.why_unready == ""
    clock.now += 1
    progress.waits({PLACE: 1_235})  # that more come is no progress
    assert health.why_unready == "no progress for 30 s while 1,235 records wait"
    assert REGISTRY.get_sample_value("weir_stalled_seconds", {"service": "tested"}) == 30
    health.unready("recovering: x")
    assert health.why_unready == "recovering: x; no progress for 30 s while 1,235 records wait"


def test_progress_or_an_empty_topic_ends_a_stall(clock: Clock, progress: StallWatch) -> None:
    progress.waits({PLACE: 5})
    clock.now += STALLED_SECONDS
    progress.moved([PLACE])
    assert progress.explain() == ""
    clock.now += STALLED_SECONDS
    assert progress.explain()
    progress.waits({PLACE: 0})
    assert progress.explain() == ""


def test_a_stalled_partition_is_reported_although_others_move(
    clock: Clock, progress: StallWatch
) -> None:
    for _ in range(4):
        progress.waits({PLACE: 3, "partition 1": 9, "partition 2": 0})
        progress.moved(["partition 1"])
        clock.now += STALLED_SECONDS / 3
    assert progress.explain() == "no progress for 40 s in partition 0 while 3 records wait"
    assert progress.stalled_seconds == 4 * STALLED_SECONDS / 3
    progress.waits({"partition 1": 9})  # the other one is somebody else's now
    assert progress.explain() == ""


def test_a_regained_partition_counts_as_stalled_since_its_last_progress(
    clock: Clock, progress: StallWatch
) -> None:
    progress.waits({PLACE: 3})
    clock.now += STALLED_SECONDS - 1
    progress.found([PLACE])
    clock.now += 1
    assert progress.explain() == "no progress for 30 s while 3 records wait"


class StuckStage(DedupStage):
    """Does not return from a call until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.leave = threading.Event(), threading.Event()

    def process(self, batch: Batch, load: Load) -> BatchResult:
        self.entered.set()
        self.leave.wait(60)
        return super().process(batch, load)


def worker_of(stage: DedupStage, stream: MemoryStream, progress: StallWatch) -> Worker:
    return Worker(
        stage,
        stream,
        MemoryStores(),
        PackedChangelog(topics.DEDUP_STATE),
        AccountEncoders(usage_records.encode_usage, worker_letters),
        progress=progress,
    )


def test_a_worker_stuck_inside_a_call_is_not_ready(clock: Clock, progress: StallWatch) -> None:
    log = MemoryLog(1)
    stream = MemoryStream(log, "weir.dedup", topics.ACCEPTED)
    stream.assign({0})
    stage = StuckStage()
    worker = worker_of(stage, stream, progress)
    log.write(topics.ACCEPTED, [accepted_output(accepted(1))])
    turning = threading.Thread(target=lambda: [worker.turn(0) for _ in range(2)])
    turning.start()
    try:
        assert stage.entered.wait(20)
        assert worker.health.why_unready == ""
        clock.now += STALLED_SECONDS
        assert "while 1 records wait" in worker.health.why_unready
    finally:
        stage.leave.set()
        turning.join(20)
    assert worker.health.why_unready == ""


def test_a_worker_that_keeps_recovering_is_not_ready(clock: Clock, progress: StallWatch) -> None:
    log = MemoryLog(1)
    stream = FaultyStream(log, "weir.dedup", topics.ACCEPTED)
    stream.assign({0})
    worker = worker_of(DedupStage(), stream, progress)
    log.write(topics.ACCEPTED, [accepted_output(accepted(1))])
    worker.turn(0)  # gains its partition
    for _ in range(3):
        stream.fault = "aborted"
        with pytest.raises(StreamBrokenError):
            worker.turn(0)
        worker.recover()
        worker.turn(0)  # nothing is read yet, and what waited before still waits
        clock.now += STALLED_SECONDS / 2
    assert "while 1 records wait" in worker.health.why_unready
    stream.fault = ""
    while not log.records(topics.UNIQUE):
        worker.turn(0)
    assert worker.health.why_unready == ""
