"""Under crashes, each record that cannot be processed becomes a dead letter alone, and no other does.

The worker, its loop and its stage are those of production; what is refused is told by a record's content.
"""

from collections import Counter
from collections.abc import Mapping

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.property.test_worker import Crash, FaultyStream
from tests.support.events import accepted, accepted_output
from weir.adapters import avro, usage_records
from weir.adapters.dead_letters import worker_letters
from weir.adapters.memory import MemoryLog, MemoryStores
from weir.core import reasons, topics
from weir.core.batch import Batch, BatchResult, Load, Output
from weir.core.record_limits import RecordLimits
from weir.dedup.stage import DedupStage
from weir.runtime.changelog import PackedChangelog
from weir.runtime.deciding import AccountEncoders
from weir.runtime.ports import RecordRefusedError, StreamBrokenError, Transaction
from weir.runtime.worker import Worker

PARTITIONS = 2
LARGE = "x" * 5_000
BAD = {
    "good": "",
    "raises": reasons.STEP_FAILED,
    "refused by brokers": reasons.REFUSED_BY_KAFKA,
    "too large": reasons.TOO_LARGE,
    "absurd key": reasons.STEP_FAILED,
    "absurd time": reasons.UNREADABLE,
    "empty": reasons.UNREADABLE,
    "too large for a letter": reasons.TOO_LARGE,
}


class LowLimits:
    """Topics that allow only small records."""

    present = RecordLimits({topics.UNIQUE: 4_000, topics.DEAD: 80_000})

    def refresh(self) -> bool:
        return False


class FailingStage(DedupStage):
    """Raises on some records, as an error in the code would."""

    def process(self, batch: Batch, load: Load) -> BatchResult:
        if any(b'"raises"' in value for value in batch.values):
            raise ZeroDivisionError
        return super().process(batch, load)


class RefusingStream(FaultyStream):
    """Its brokers refuse every transaction with a certain record in it."""

    def commit(self, transaction: Transaction) -> Mapping[int, int]:
        for topic, _, outputs in transaction.writes:
            if topic != topics.DEAD and any(b'"refused"' in value for _, value in outputs):
                raise RecordRefusedError("INVALID_RECORD")
        return super().commit(transaction)


def record(kind: str, number: int) -> Output:
    if kind == "empty":
        return Output(f"shop\0{number}".encode(), b"")
    if kind == "absurd key":
        return accepted_output(accepted(number))._replace(key=b"k" * 70_000 + str(number).encode())
    if kind == "absurd time":
        return accepted_output(accepted(number, received_at=-5))
    said = {"raises": '{"a":"raises"}', "refused by brokers": '{"a":"refused"}'}.get(kind, "{}")
    if kind.startswith("too large"):
        said = f'{{"a":"{LARGE * (4 if kind.endswith("letter") else 1)}"}}'
    return accepted_output(accepted(number, properties=said))


class EachDiesAlone(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.log = MemoryLog(PARTITIONS)
        self.disk = MemoryStores()
        self.sent: Counter[str] = Counter()
        self.number = 0
        self.start()

    def start(self) -> None:
        self.stream = RefusingStream(self.log, "weir.dedup", topics.ACCEPTED, batch_records=25)
        self.worker = Worker(
            FailingStage(),
            self.stream,
            self.disk,
            PackedChangelog(topics.DEDUP_STATE),
            AccountEncoders(usage_records.encode_usage, worker_letters),
            LowLimits(),
        )
        self.stream.assign(set(range(PARTITIONS)))

    @rule(kinds=st.lists(st.sampled_from(["good", "good", *BAD]), min_size=1, max_size=20))
    def send(self, kinds: list[str]) -> None:
        for kind in kinds:
            self.number += 1
            self.log.write(topics.ACCEPTED, [record(kind, self.number)])
            self.sent[BAD[kind]] += 1

    @rule(fault=st.sampled_from(["", "crash before", "crash after", "aborted"]))
    def turn(self, fault: str) -> None:
        self.stream.fault = fault
        try:
            self.worker.turn(0)
        except StreamBrokenError:
            self.worker.recover()
        except Crash:
            self.start()

    def teardown(self) -> None:
        if not hasattr(self, "log"):
            return
        self.stream.fault = ""
        for _ in range(200):
            self.turn("")
            if self.stream.lag() and not any(self.stream.lag().values()):
                break
        letters = [avro.decode_any(r.value)[1] for r in self.log.records(topics.DEAD)]
        places = {(letter["origin_partition"], letter["origin_offset"]) for letter in letters}
        assert len(places) == len(letters)
        expected = Counter(self.sent)
        assert len(self.log.records(topics.UNIQUE)) == expected.pop("", 0)
        assert Counter(letter["reason"] for letter in letters) == +expected
        for letter in letters:
            at = self.log.partition(topics.ACCEPTED, letter["origin_partition"])
            origin = at[letter["origin_offset"]]
            if letter["value"] != origin.value:
                assert len(origin.key) + len(origin.value) > LowLimits.present.letter
                assert "BLAKE2b" in letter["detail"]
        counted: Counter[str] = Counter()
        for delta in self.log.records(topics.USAGE):
            _, usage = avro.decode_any(delta.value)
            counted[usage["outcome"]] += usage["events"]
        assert counted["accepted"] == self.sent.total()
        assert counted["dead"] == len(letters)


EachDiesAlone.TestCase.settings = settings(max_examples=60, stateful_step_count=12)
TestEachDiesAlone = EachDiesAlone.TestCase
