"""Sends letters in again, each once: with its entry in the ledger, in one transaction."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from services.core import topics
from services.core.recovery import Recovery, Write
from services.edge import avro
from services.edge.faults import NotReachedError, RefusedError
from services.edge.kafka import FENCED, client_options
from services.edge.kafka_admin import KafkaAdmin
from services.edge.kafka_partition import PartitionReader
from services.edge.kafka_producer import MAX_RECORD_BYTES
from services.runtime.config import KafkaSettings

TRANSACTIONAL_ID = "weir-replay"
SECONDS = 10
NO_LEDGER = "The topic `recoveries` does not exist: run `weir topics apply` first."


class ReplacedError(RefusedError):
    """A later replay has taken this one's place."""


def read_ledger(settings: KafkaSettings) -> set[bytes]:
    """The keys of every letter that was sent in again. `RefusedError`: there is no ledger yet."""
    admin = KafkaAdmin(settings)
    try:
        ledger = admin.topics(with_config=False).get(topics.RECOVERIES)
    finally:
        admin.close()
    if ledger is None:
        raise RefusedError(NO_LEDGER)
    places = [TopicPartition(topics.RECOVERIES, p, 0) for p in range(ledger.partitions)]
    with _clear_errors():
        reader = PartitionReader({**client_options(settings), "log_level": 0}, SECONDS)
        return {message.key() or b"" for message in reader.read_to_end(places)}


class Recoveries:
    """The one writer of recoveries. A second one ends the first, whose open transaction is undone.

    Read the ledger after this was made: nobody else can write to it then.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._producer = Producer(
            {
                **client_options(settings),
                "transactional.id": TRANSACTIONAL_ID,
                "transaction.timeout.ms": SECONDS * 1000,
                "acks": "all",
                "enable.idempotence": True,
                "message.max.bytes": MAX_RECORD_BYTES,
                "partitioner": "murmur2_random",  # the workers': see services/edge/kafka_stream.py
                "linger.ms": 5,
                "log_level": 0,  # what it would print is raised, too
            }
        )
        self._schema = avro.schemas()["Recovery"]
        with _clear_errors():
            self._producer.init_transactions(3 * SECONDS)

    def write(self, writes: Sequence[Write], entries: Sequence[Recovery]) -> None:
        """All of it is there on return. `ReplacedError`: none is; `NotReachedError`: the ledger knows."""
        with _clear_errors():
            self._producer.begin_transaction()
            for write in writes:
                self._write(write)
            for entry in entries:
                value = self._schema.encode(msgspec.structs.asdict(entry))
                self._write(Write(topics.RECOVERIES, None, entry.key, value))
            self._producer.commit_transaction(2 * SECONDS)

    def _write(self, write: Write) -> None:
        partition = -1 if write.partition is None else write.partition
        while True:
            try:
                self._producer.produce(write.topic, write.value, write.key or None, partition)
                return
            except BufferError:  # as much waits as may: let some go out
                self._producer.poll(0.1)


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except KafkaException as fault:
        error: KafkaError = fault.args[0]
        if error.code() in FENCED:
            raise ReplacedError(
                "Another replay has begun and taken this one's place. What this one has sent stays"
                " sent; run it again when the other has ended, and it goes on with the rest."
            ) from None
        raise NotReachedError(
            f"Kafka did not take it: {error.str()}. Run it again: it finds out what was sent, and goes"
            " on with the rest."
        ) from None
