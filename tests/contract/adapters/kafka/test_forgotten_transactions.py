"""A slot's next process aborts a dead process's transaction even where the broker forgot to end it."""

from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from tests.contract.adapters.kafka.test_stream import begin, read_committed
from tests.support.running import RunningKafka, start_kafka
from weir.adapters.kafka.admin import KafkaAdmin, Topic
from weir.adapters.kafka.clients import client_options
from weir.adapters.kafka.retry import retry
from weir.adapters.kafka.stream import KafkaStream, StreamOptions
from weir.adapters.kafka.transactions import Transactions
from weir.core import topics
from weir.core.batch import Output
from weir.core.record_limits import MAX_TOPIC_BYTES
from weir.runtime.ports import StreamBrokenError, Transaction
from weir.settings.shared import KafkaSettings

TRANSACTION_SECONDS = 2


def test_a_successor_does_not_commit_the_open_transaction_of_a_dead_process(tmp_path: Path) -> None:
    """Kafka 4.1 to 4.3 may abort a transaction without a marker in the partitions that it wrote to

    (KAFKA-20734): while they have no leader, as when a lone broker starts again after kill -9. What
    it wrote then counts with the next transaction of the same id.
    """
    kafka = start_kafka(tmp_path)
    try:
        settings = KafkaSettings(kafka_bootstrap=kafka.bootstrap)
        admin = KafkaAdmin(settings)
        names = ("in", "out", "other", topics.POSITIONS)
        admin.create([Topic(name, 1, 1, {}) for name in names])
        admin.close()
        options = StreamOptions(
            "hanging",
            "in",
            0,
            transaction_seconds=TRANSACTION_SECONDS,
            session_seconds=6,
            writes=("out", "other", topics.POSITIONS),
        )
        dead = Producer(
            {
                **client_options(settings),
                "transactional.id": options.name,
                "transaction.timeout.ms": TRANSACTION_SECONDS * 1000,
            }
        )
        dead.init_transactions(30)
        dead.begin_transaction()
        dead.produce("out", b"lost", b"", 0)
        dead.produce("other", b"lost", b"", 0)
        assert dead.flush(30) == 0
        kafka.kill()
        kafka = start_kafka(tmp_path, kafka.port)

        # a broker that has just started may have no leaders yet for longer than a transaction may take
        stream = retry(
            lambda: KafkaStream(settings, options), StreamBrokenError, lambda fault: True, 60
        )
        begin(stream)
        stream.commit(Transaction([("out", 0, [Output(b"", b"mine")])], [], {0: 0}))
        assert read_committed(settings, "out") == [(b"", b"mine")]
        assert read_committed(settings, "other") == []  # and nobody waits for it to be ended
        stream.close()
    finally:
        kafka.kill()


def test_writing_a_record_beyond_the_size_limit_raises_msg_size_too_large(
    kafka: RunningKafka,
) -> None:
    """The write raises at once; only a record that finds the producer's queue full is retried."""
    settings = KafkaSettings(kafka_bootstrap=kafka.bootstrap)
    transactions = Transactions(client_options(settings), "weir-too-large-0", 10, ())
    transactions.begin()
    with pytest.raises(KafkaException) as said:
        transactions.write("anywhere", 0, [Output(b"", bytes(MAX_TOPIC_BYTES + 1))])
    assert said.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
