"""A slot's start writes few markers, and a transaction that times out is not taken for fencing."""

from collections.abc import Callable, Sequence

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from tests.support.running import RunningKafka, wait_until
from weir.adapters.errors import UnavailableError
from weir.adapters.kafka.admin import KafkaAdmin, Topic
from weir.adapters.kafka.clients import client_options
from weir.adapters.kafka.partition_reader import PartitionReader
from weir.adapters.kafka.transactions import ENDED_AT_ONCE, Transactions, transaction_errors
from weir.core.batch import Output
from weir.runtime.ports import FencedError
from weir.settings.shared import KafkaSettings

Names = Callable[[str], str]
PATIENCE = 30
PARTITIONS = 48
OPEN = 2 * ENDED_AT_ONCE + 1


class Counted(Transactions):
    """Remembers how many partitions each of its first transactions is about."""

    def _abort_in(self, places: Sequence[TopicPartition]) -> None:
        self.sizes = [*getattr(self, "sizes", []), len(places)]
        super()._abort_in(places)


@pytest.fixture
def settings(kafka: RunningKafka) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap=kafka.bootstrap)


def make_topic(settings: KafkaSettings, name: str, partitions: int) -> list[TopicPartition]:
    admin = KafkaAdmin(settings)
    admin.create([Topic(name, partitions, 1, {})])
    admin.close()
    return [TopicPartition(name, partition) for partition in range(partitions)]


def test_a_start_ends_open_transactions_in_small_groups_and_writes_nowhere_else(
    settings: KafkaSettings, unique_name: Names
) -> None:
    topic = unique_name("out")
    places = make_topic(settings, topic, PARTITIONS)
    reader = PartitionReader(client_options(settings), PATIENCE)
    other = Producer({**client_options(settings), "transactional.id": unique_name("other")})
    other.init_transactions(PATIENCE)
    other.begin_transaction()
    for place in places[:OPEN]:
        other.produce(topic, b"open", partition=place.partition)
    assert other.flush(PATIENCE) == 0
    assert reader.with_open_transactions(places) == places[:OPEN]

    started = Counted(client_options(settings), unique_name("slot"), PATIENCE, [topic])

    assert started.sizes == [ENDED_AT_ONCE, ENDED_AT_ONCE, 1]
    ends = [at.end for at in reader.bounds(places).values()]
    record_and_marker = 2
    assert ends == [1 + record_and_marker] * OPEN + [0] * (PARTITIONS - OPEN)
    other.abort_transaction(PATIENCE)
    wait_until(lambda: not reader.with_open_transactions(places), PATIENCE, "nothing to be open")


def test_a_timed_out_transaction_raises_unavailable_instead_of_fenced(
    settings: KafkaSettings, unique_name: Names
) -> None:
    topic, seconds = unique_name("out"), 5  # long enough to be written on a busy machine
    (place,) = make_topic(settings, topic, 1)
    reader = PartitionReader(client_options(settings), PATIENCE)
    transactions = Transactions(client_options(settings), unique_name("slow"), seconds, [topic])
    transactions.begin()
    transactions.write(topic, 0, [Output(b"", b"late")])
    wait_until(lambda: reader.with_open_transactions([place]), PATIENCE, "it to be written")
    wait_until(lambda: not reader.with_open_transactions([place]), PATIENCE, "it to be given up")
    with (
        pytest.raises(UnavailableError, match="Kafka did not take it"),
        transaction_errors("Another one.", "Kafka did not take it: {fault}."),
    ):
        transactions.commit()


def test_a_replaced_transactional_producer_raises_fenced_error(
    settings: KafkaSettings, unique_name: Names
) -> None:
    topic, name = unique_name("out"), unique_name("slot")
    make_topic(settings, topic, 1)
    first = Transactions(client_options(settings), name, PATIENCE, [topic])
    first.begin()
    first.write(topic, 0, [Output(b"", b"first's")])
    Transactions(client_options(settings), name, PATIENCE, [topic])

    def goes_on() -> None:
        first.commit()
        first.begin()
        first.write(topic, 0, [Output(b"", b"first's")])

    with pytest.raises(FencedError):
        goes_on()
    with pytest.raises((FencedError, KafkaException)):  # and it stays so
        first.begin()


def test_an_oversized_record_is_the_reported_reason_when_later_ones_stay_unsent(
    settings: KafkaSettings, unique_name: Names
) -> None:
    """The refusal is found although the commit waits for unsent records of the same partition."""
    topic, more = unique_name("small"), unique_name("more")
    admin = KafkaAdmin(settings)
    admin.create([Topic(topic, 1, 1, {"max.message.bytes": "100000"}), Topic(more, 1, 1, {})])
    admin.close()
    base = {**client_options(settings), "batch.size": 90_000, "log_level": 0}
    small, large = Output(b"k", b"x"), Output(b"k", b"y" * 500_000)
    codes = []
    for attempt in range(10):  # in some of them the refusal is there before the commit
        transactions = Transactions(base, unique_name(f"slot-{attempt}"), 20, [])
        transactions.begin()
        try:
            transactions.write(topic, 0, [small] * 4 + [large] + [small] * 3)
            transactions.write(more, 0, [small])
            transactions.commit()
        except KafkaException as fault:
            codes.append(transactions.reason(fault).code())
        transactions.purge()
    assert codes == [KafkaError.MSG_SIZE_TOO_LARGE] * 10
