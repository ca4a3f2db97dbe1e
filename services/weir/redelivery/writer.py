"""Write letters again exactly once: each with its ledger entry, in one transaction."""

from collections.abc import Sequence
from functools import partial

import msgspec
from confluent_kafka import TopicPartition

from weir.adapters import avro
from weir.adapters.errors import RefusedError
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.clients import client_options
from weir.adapters.kafka.partition_reader import PartitionReader
from weir.adapters.kafka.transactions import Transactions, transaction_errors
from weir.core import topics
from weir.core.batch import Output
from weir.redelivery.model import Recovery, Write
from weir.settings.shared import KafkaSettings

TRANSACTIONAL_ID = "weir-replay"
SECONDS = 10
# Every topic that a dead letter may come from, or that a rejected event goes to.
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
    "Another replay has started and has ended this one. What this one has sent stays sent; when the"
    " other has ended, run this one again: it continues with the rest."
)
NOT_TAKEN = "Kafka did not accept it: {fault}. Run it again: it finds out what was sent, and continues with the rest."
NO_LEDGER = "The topic `recoveries` does not exist: run `weir topics apply` first."

_writer_errors = partial(transaction_errors, REPLACED, NOT_TAKEN)


def read_ledger(settings: KafkaSettings) -> set[bytes]:
    """Return the ledger keys of all letters that were sent again. `RefusedError` if there is no ledger yet."""
    admin = KafkaAdmin(settings)
    try:
        ledger = admin.topics(with_config=False).get(topics.RECOVERIES)
    finally:
        admin.close()
    if ledger is None:
        raise RefusedError(NO_LEDGER)
    places = [TopicPartition(topics.RECOVERIES, p, 0) for p in range(ledger.partitions)]
    with _writer_errors():
        reader = PartitionReader({**client_options(settings), "log_level": 0}, SECONDS)
        return {message.key() or b"" for message in reader.read_to_end(places)}


class Recoveries:
    """The only writer of recoveries. A second writer fences the first, whose open transaction is aborted.

    Read the ledger after construction: from then on no earlier writer can write to it.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        options = {
            **client_options(settings),
            "log_level": 0,  # its messages are raised as errors as well
        }
        self._schema = avro.schemas()["Recovery"]
        with _writer_errors():
            self._transactions = Transactions(options, TRANSACTIONAL_ID, SECONDS, WRITES)

    def write(self, writes: Sequence[Write], entries: Sequence[Recovery]) -> None:
        """Write records and ledger entries in one transaction; all are durable on return.

        `ReplacedError`: none was written. `UnavailableError`: unknown; the ledger tells.
        """
        with _writer_errors():
            self._transactions.begin()
            for write in writes:
                output = Output(write.key, write.value)
                self._transactions.write(write.topic, write.partition, [output])
            kept = [Output(e.key, self._schema.encode(msgspec.structs.asdict(e))) for e in entries]
            self._transactions.write(topics.RECOVERIES, None, kept)
            self._transactions.commit()
