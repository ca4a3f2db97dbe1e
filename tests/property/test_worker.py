"""The worker counts every event exactly once under crashes between any two effects.

The oracle is a plain dictionary. Crash points come through the ports; the worker is as in production.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.events import accepted, accepted_output
from tests.support.profiles import examples
from weir.adapters import avro, usage_records
from weir.adapters.dead_letters import worker_letters
from weir.adapters.memory import MemoryLog, MemoryStores, MemoryStream
from weir.core import topics
from weir.dedup.stage import DedupStage
from weir.runtime.changelog import PackedChangelog
from weir.runtime.deciding import AccountEncoders
from weir.runtime.ports import StreamBrokenError, Transaction
from weir.runtime.worker import Worker

PARTITIONS = 3
INSTANCES = 2


class Crash(BaseException):
    """The process is gone: nothing after this point happens."""


class FaultyStream(MemoryStream):
    """Breaks at the next commit, as asked: before it, or after it without saying so."""

    fault: str = ""

    def commit(self, transaction: Transaction) -> Mapping[int, int]:
        fault, self.fault = self.fault, ""
        if fault == "crash before":
            raise Crash
        if fault == "aborted":
            raise StreamBrokenError("aborted")
        ends = super().commit(transaction)
        if fault == "crash after":
            raise Crash
        if fault == "timed out though committed":
            raise StreamBrokenError("timed out")
        return ends

    def rewind(self) -> None:
        """As a consumer does whose late answer to an offset request takes it back."""
        self._next = dict.fromkeys(self._next, 0)


class Instance:
    """One slot: its local disk outlives its workers."""

    def __init__(self, log: MemoryLog, streams: type[FaultyStream], workers: type[Worker]) -> None:
        self._log = log
        self._streams = streams
        self._workers = workers
        self.disk = MemoryStores()
        self.partitions: set[int] = set()
        self.start()

    def start(self) -> None:
        self.stream = self._streams(self._log, "weir.dedup", topics.ACCEPTED, batch_records=7)
        self.worker = self._workers(
            DedupStage(),
            self.stream,
            self.disk,
            PackedChangelog(topics.DEDUP_STATE),
            AccountEncoders(usage_records.encode_usage, worker_letters),
        )
        self.stream.assign(self.partitions)

    def assign(self, partitions: set[int]) -> None:
        self.partitions = partitions
        self.stream.assign(partitions)

    def turn(self) -> None:
        try:
            self.worker.turn(0)
        except StreamBrokenError:
            self.worker.recover()
        except Crash:
            self.start()


class Exactly(RuleBasedStateMachine):
    streams = FaultyStream
    workers = Worker

    @initialize()
    def begin(self) -> None:
        self.log = MemoryLog(PARTITIONS)
        self.sent: Counter[str] = Counter()
        self.number = 0
        self.copies = 0
        self.instances = [Instance(self.log, self.streams, self.workers) for _ in range(INSTANCES)]
        self.instances[0].assign(set(range(PARTITIONS)))

    @rule(keys=st.lists(st.integers(0, 40), min_size=1, max_size=20))
    def send(self, keys: list[int]) -> None:
        for key in keys:
            self.number += 1
            event = accepted(self.number, idempotency_key=str(key))
            self.log.write(topics.ACCEPTED, [accepted_output(event)])
            self.sent[str(key)] += 1

    @rule(partition=st.integers(0, PARTITIONS - 1), back=st.integers(1, 30))
    def write_again(self, partition: int, back: int) -> None:
        """As a producer does that gets no answer for what a dying broker has written."""
        records = self.log.partition(topics.ACCEPTED, partition)
        if records:
            records.append(records[-min(back, len(records))])
            self.copies += 1

    @rule(which=st.integers(0, INSTANCES - 1))
    def turn(self, which: int) -> None:
        self.instances[which].turn()

    @rule(
        which=st.integers(0, INSTANCES - 1),
        fault=st.sampled_from(
            ["crash before", "crash after", "aborted", "timed out though committed"]
        ),
    )
    def turn_with_fault(self, which: int, fault: str) -> None:
        self.instances[which].stream.fault = fault
        self.instances[which].turn()
        self.instances[which].stream.fault = ""

    @rule(which=st.integers(0, INSTANCES - 1))
    def read_again(self, which: int) -> None:
        self.instances[which].stream.rewind()

    @rule(which=st.integers(0, INSTANCES - 1))
    def kill(self, which: int) -> None:
        self.instances[which].start()

    @rule(which=st.integers(0, INSTANCES - 1))
    def lose_disk(self, which: int) -> None:
        self.instances[which].disk = MemoryStores()
        self.instances[which].start()

    @rule(split=st.sets(st.integers(0, PARTITIONS - 1)))
    def rebalance(self, split: set[int]) -> None:
        for instance, partitions in zip(
            self.instances, (split, set(range(PARTITIONS)) - split), strict=True
        ):
            instance.assign(partitions)

    @invariant()
    def nothing_is_emitted_twice(self) -> None:
        emitted = Counter(self._keys(topics.UNIQUE))
        assert all(times == 1 for times in emitted.values())

    def teardown(self) -> None:
        if not hasattr(self, "log"):
            return
        for _ in range(200):
            for instance in self.instances:
                instance.turn()
            if all(not any(i.stream.lag().values()) for i in self.instances):
                break
        emitted = Counter(self._keys(topics.UNIQUE))
        assert emitted == dict.fromkeys(self.sent, 1)
        repeats = Counter(self._keys(topics.DUPLICATE))
        assert repeats == +Counter({key: times - 1 for key, times in self.sent.items()})
        counted = Counter(
            accepted=sum(self.sent.values()),
            unique=len(self.sent),
            duplicate=sum(self.sent.values()) - len(self.sent),
            reread=self.copies,
        )
        assert self._usage() == +counted

    def _keys(self, topic: str) -> Iterable[str]:
        for record in self.log.records(topic):
            _, event = avro.decode_any(record.value)
            yield event["idempotency_key"]

    def _usage(self) -> Mapping[str, int]:
        counted: Counter[str] = Counter()
        for record in self.log.records(topics.USAGE):
            _, delta = avro.decode_any(record.value)
            counted[delta["outcome"]] += delta["events"]
        return +counted


Exactly.TestCase.settings = examples(200, stateful_step_count=30)
TestExactlyOnce = Exactly.TestCase
