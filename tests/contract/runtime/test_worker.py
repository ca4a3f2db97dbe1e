"""The worker counts every event exactly once although it crashes between any two effects.

As tests/property/test_worker.py, which has the many cases; the oracle is a plain dictionary here, too.
"""

import random
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest
from confluent_kafka import TopicPartition

from tests.support.events import accepted, accepted_output
from tests.support.running import RunningKafka
from weir.adapters import avro, usage_records
from weir.adapters.dead_letters import worker_letters
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.clients import client_options, write_entries
from weir.adapters.kafka.partition_reader import PartitionReader
from weir.adapters.kafka.stream import KafkaStream, StreamOptions
from weir.adapters.rocksdb import RocksStores
from weir.cli.topics import apply_topics
from weir.core import topics
from weir.dedup.stage import DedupStage
from weir.runtime.changelog import PackedChangelog
from weir.runtime.deciding import AccountEncoders
from weir.runtime.ports import StreamBrokenError, Transaction
from weir.runtime.worker import Worker
from weir.settings.shared import KafkaSettings

FAULTS = ("before", "in the middle", "after", "unanswered", "disk lost", "")
ROUNDS = 16
KEYS = 60
PARTITIONS = range(4)
SETTLED_SECONDS = 60
T = TypeVar("T")


class Crash(BaseException):
    """The process is gone: nothing after this point happens."""


def burning(values: Iterable[T]) -> Iterator[T]:
    yield from values
    raise Crash


class BurningStream(KafkaStream):
    """Ends the process, or hears no answer, at the next commit."""

    fault = ""

    def commit(self, transaction: Transaction) -> Mapping[int, int]:
        fault, self.fault = self.fault, ""
        if fault == "before":
            raise Crash
        if fault == "in the middle":  # the records are on their way, the offsets and the commit not
            transaction = transaction._replace(changelog=burning(transaction.changelog))  # type: ignore[arg-type]
        ends = super().commit(transaction)
        if fault == "after":  # and before the stores
            raise Crash
        if fault == "unanswered":
            raise StreamBrokenError("no answer")
        return ends


class Instance:
    """One slot on one disk."""

    def __init__(self, settings: KafkaSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._admin = KafkaAdmin(settings)
        self.start()

    def start(self) -> None:
        stage, changelog = DedupStage(), PackedChangelog(topics.DEDUP_STATE)
        written = (*stage.writes, changelog.topic, topics.DEAD, topics.USAGE, topics.POSITIONS)
        options = StreamOptions(
            stage.name, topics.ACCEPTED, 0, writes=written, batch_records=40, session_seconds=6
        )
        self.stream = BurningStream(self._settings, options)
        self.worker = Worker(
            stage,
            self.stream,
            RocksStores(self._folder),
            changelog,
            AccountEncoders(usage_records.encode_usage, worker_letters),
        )

    def end(self) -> None:
        """As kill -9, as far as anybody can tell: a static member does not leave its group."""
        self.worker.close()

    def turns(self, fault: str) -> None:
        """Until the fault has happened, or all is settled."""
        self.stream.fault = fault
        deadline = time.monotonic() + SETTLED_SECONDS
        while self.unread() and time.monotonic() < deadline:
            try:
                self.worker.turn(0.1)
            except StreamBrokenError:
                self.worker.recover()
                return
            except Crash:
                self.end()
                self.start()
                return

    def unread(self) -> int:
        return sum(lag.records for lag in self._admin.lags({"weir.dedup": (topics.ACCEPTED,)}))


@pytest.mark.parametrize("seed", [1])
def test_every_event_counts_once_despite_crashes_and_lost_disks(
    empty_kafka: RunningKafka, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    settings = KafkaSettings(kafka_bootstrap=empty_kafka.bootstrap)
    apply_topics(settings)
    instance = Instance(settings, tmp_path / "state")
    sent: Counter[str] = Counter()
    for number in range(ROUNDS):
        keys = [str(chance.randrange(KEYS)) for _ in range(chance.randrange(1, 60))]
        events = [accepted(1_000 * number + n, idempotency_key=key) for n, key in enumerate(keys)]
        write_entries(settings, topics.ACCEPTED, [accepted_output(event) for event in events])
        sent.update(keys)
        fault = chance.choice(FAULTS)
        if fault == "disk lost":
            instance.end()
            shutil.rmtree(tmp_path / "state", ignore_errors=True)
            instance.start()
        instance.turns(fault)
    instance.turns("")
    instance.end()
    assert not instance.unread()
    assert Counter(keys_of(settings, topics.UNIQUE)) == dict.fromkeys(sent, 1)
    repeats = +Counter({key: times - 1 for key, times in sent.items()})
    assert Counter(keys_of(settings, topics.DUPLICATE)) == repeats
    counted: Counter[str] = Counter()
    for delta in records(settings, topics.USAGE):
        counted[delta["outcome"]] += delta["events"]
    assert counted == {
        "accepted": sent.total(),
        "unique": len(sent),
        "duplicate": repeats.total(),
    }


def keys_of(settings: KafkaSettings, topic: str) -> Iterator[str]:
    for record in records(settings, topic):
        yield record["idempotency_key"]


def records(settings: KafkaSettings, topic: str) -> Iterator[avro.AvroRecord]:
    reader = PartitionReader(client_options(settings), 10)
    for message in reader.read_to_end([TopicPartition(topic, p, 0) for p in PARTITIONS]):
        yield avro.decode_any(message.value() or b"")[1]
