"""Sends letters in again, each once: with its entry in the ledger, in one transaction."""

from collections.abc import Sequence
from functools import partial

import msgspec
from confluent_kafka import TopicPartition

from weir.adapters import avro
from weir.adapters.errors import RefusedError
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.clients import client_options
from weir.adapters.kafka.partition_reader import PartitionReader
from weir.adapters.kafka.transactions import Transactions, clear_errors
from weir.core import topics
from weir.core.batch import Output
from weir.redelivery.model import Recovery, Write
from weir.settings.shared import KafkaSettings

TRANSACTIONAL_ID = "weir-replay"
SECONDS = 10
# Every topic that a letter may have come from, or a refusal goes to.
WRITES = (
    topics.ACCEPTED,
    topics.UNIQUE,
    topics.RESOLVED,
    topics.DUPLICATE,
    topics.REJECTED,
    topics.DEAD,
    topics.RECOVERIES,
)
REPLACED = (
    "Another replay has begun and taken this one's place. What this one has sent stays sent; run it"
    " again when the other has ended, and it goes on with the rest."
)
NOT_TAKEN = "Kafka did not take it: {fault}. Run it again: it finds out what was sent, and goes on with the rest."
NO_LEDGER = "The topic `recoveries` does not exist: run `weir topics apply` first."

_clear_errors = partial(clear_errors, REPLACED, NOT_TAKEN)


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
        options = {
            **client_options(settings),
            "log_level": 0,  # what it would print is raised, too
        }
        self._schema = avro.schemas()["Recovery"]
        with _clear_errors():
            self._transactions = Transactions(options, TRANSACTIONAL_ID, SECONDS, WRITES)

    def write(self, writes: Sequence[Write], entries: Sequence[Recovery]) -> None:
        """All of it is there on return. `ReplacedError`: none is; `NotReachedError`: the ledger knows."""
        with _clear_errors():
            self._transactions.begin()
            for write in writes:
                output = Output(write.key, write.value)
                self._transactions.write(write.topic, write.partition, [output])
            kept = [Output(e.key, self._schema.encode(msgspec.structs.asdict(e))) for e in entries]
            self._transactions.write(topics.RECOVERIES, None, kept)
            self._transactions.commit()
