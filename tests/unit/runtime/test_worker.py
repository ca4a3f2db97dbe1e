"""A worker ends when its recoveries do not help and continues when they do."""

from collections.abc import Mapping

import pytest

from tests.support.events import accepted, accepted_output
from weir.adapters import usage_records
from weir.adapters.dead_letters import worker_letters
from weir.adapters.memory import MemoryLog, MemoryStores, MemoryStream
from weir.core import topics
from weir.dedup.stage import DedupStage
from weir.runtime.changelog import PackedChangelog
from weir.runtime.deciding import AccountEncoders
from weir.runtime.ports import StreamBrokenError, Transaction
from weir.runtime.recovery_limit import LIMIT, RecoveryFailedError, RecoveryLimit
from weir.runtime.worker import Worker

SECONDS_EACH = 30.0


class Broken(MemoryStream):
    """Takes every so many-th transaction; 0: none."""

    takes_every = 0
    tried = 0

    def commit(self, transaction: Transaction) -> Mapping[int, int]:
        self.tried += 1
        if self.takes_every and self.tried % self.takes_every == 0:
            return super().commit(transaction)
        raise StreamBrokenError(f"fault {self.tried}")


class Patience:
    """A request to end that comes after so many pauses; each takes half a minute of the test's clock."""

    def __init__(self, pauses: int) -> None:
        self.left = pauses
        self.now = 0.0

    def is_set(self) -> bool:
        return self.left <= 0

    def wait(self, timeout: float) -> bool:
        self.left -= 1
        self.now += SECONDS_EACH
        return self.is_set()


def started(patience: Patience, takes_every: int) -> tuple[Worker, Broken]:
    log = MemoryLog(1)
    log.write(topics.ACCEPTED, [accepted_output(accepted(n)) for n in range(100)])
    stream = Broken(log, "group", topics.ACCEPTED, batch_records=1)
    stream.takes_every = takes_every
    stream.assign({0})
    worker = Worker(
        DedupStage(),
        stream,
        MemoryStores(),
        PackedChangelog(topics.DEDUP_STATE),
        AccountEncoders(usage_records.encode_usage, worker_letters),
        recoveries=RecoveryLimit(lambda: patience.now),
    )
    return worker, stream


def test_a_worker_ends_after_too_many_recoveries_without_a_commit() -> None:
    worker, stream = started(patience := Patience(100), takes_every=0)
    with pytest.raises(RecoveryFailedError, match=f"the last fault: fault {LIMIT + 1}"):
        worker.run(patience)
    assert stream.tried == LIMIT + 1
    assert "recovering: fault" in worker.health.why_unready


def test_a_worker_continues_while_commits_succeed_between_recoveries() -> None:
    worker, stream = started(patience := Patience(100), takes_every=3)
    worker.run(patience)
    assert stream.tried > 100
