"""A slot's transactions: one transactional producer, and what its former processes left to be ended."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from services.core.record_limits import BATCH_BYTES
from services.core.step import Output
from services.edge.faults import NotReachedError, RefusedError
from services.edge.kafka import FENCED
from services.runtime.ports import FencedError, StreamBrokenError

PRODUCE_CHUNK = 20_000
NOTHING = b"-"  # what is written only to be aborted
SMALL_BYTES = 1_024


class ReplacedError(RefusedError):
    """A later process has taken the slot."""


@contextmanager
def clear_errors(replaced: str, not_taken: str) -> Iterator[None]:
    """`ReplacedError` with the one text, `NotReachedError` with the other, of which `{fault}` is a part."""
    try:
        yield
    except FencedError:
        raise ReplacedError(replaced) from None
    except StreamBrokenError as fault:
        raise NotReachedError(not_taken.format(fault=fault)) from None
    except KafkaException as fault:
        error: KafkaError = fault.args[0]
        if error.code() in FENCED:
            raise ReplacedError(replaced) from None
        raise NotReachedError(not_taken.format(fault=error.str())) from None


class Transactions:
    """Each is whole or nothing, and so is what a former process of this slot left open.

    One is made for each start and after each doubt: librdkafka has no KIP-890 yet, so that a producer
    cannot be trusted after an error. `FencedError`, `StreamBrokenError`: not made. Its methods raise
    `KafkaException` and `BufferError`, after which it is of no more use.
    """

    def __init__(
        self, base: Mapping[str, Any], name: str, seconds: int, writes: Iterable[str]
    ) -> None:
        """`name`: the transactional id; `writes`: every topic that its transactions may write to."""
        self._seconds = seconds
        self._producer = Producer(
            {
                # of a few large requests each costs less
                "batch.size": BATCH_BYTES,
                **base,
                "transactional.id": name,
                "transaction.timeout.ms": seconds * 1000,
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": "murmur2_random",
                # a commit flushes, so this delays nothing, and larger requests cost less
                "linger.ms": 500,
                "queue.buffering.max.messages": 500_000,
                "queue.buffering.max.kbytes": 131_072,
            }
        )
        try:
            self._producer.init_transactions(seconds * 3)
            self._end_forgotten(writes)
        except KafkaException as fault:
            if fault.args[0].code() in FENCED:
                raise FencedError(str(fault)) from fault
            raise StreamBrokenError(str(fault)) from fault

    def begin(self) -> None:
        self._producer.begin_transaction()

    def write(self, topic: str, partition: int | None, outputs: Iterable[Output]) -> None:
        """`None` as partition: by the record's key. An empty value: the key's tombstone."""
        records: list[dict[str, Any]] = [
            {"key": key, "value": value or None} for key, value in outputs
        ]
        options = {} if partition is None else {"partition": partition}
        while records:
            chunk, records = records[:PRODUCE_CHUNK], records[PRODUCE_CHUNK:]
            while chunk:
                taken = self._producer.produce_batch(topic, chunk, **options)
                if taken == len(chunk):
                    break
                # the queue was full: let some go out, then hand in those that were left
                chunk = [record for record in chunk if _is_left(record)]
                self._producer.poll(0.1)

    def write_told(
        self, topic: str, partition: int, outputs: list[Output], ends: dict[int, int]
    ) -> None:
        """As `write`; by the commit's return `ends` has the partition's next offset after them."""

        def written(error: KafkaError | None, message: Message) -> None:
            if error is None:
                ends[message.partition()] = message.offset() + 1

        self.write(topic, partition, outputs[:-1])
        last = outputs[-1]
        # only the last one's offset is needed, so only it has a callback
        self._producer.produce(topic, last.value or None, last.key, partition, on_delivery=written)

    def settle(self, places: list[TopicPartition], group: object) -> None:
        """The group's offsets of these places, as from its `consumer_group_metadata`."""
        self._producer.send_offsets_to_transaction(places, group, self._seconds)

    def commit(self) -> None:
        self._producer.commit_transaction(self._seconds)

    def accepts(self, writes: Iterable[tuple[str, int | None, list[Output]]]) -> bool:
        """Write small records under the same keys and abort; return whether brokers take all of them.

        If not, it is of no more use.
        """
        faults: list[KafkaError] = []

        def written(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                faults.append(error)

        self._producer.begin_transaction()
        for topic, partition, outputs in writes:
            options = {} if partition is None else {"partition": partition}
            for output in outputs:
                key = output.key[:SMALL_BYTES]
                self._producer.produce(topic, NOTHING, key, on_delivery=written, **options)
        if self._producer.flush(self._seconds) or faults:
            return False
        self._producer.abort_transaction(self._seconds)
        return True

    def reason(self, fault: KafkaException) -> KafkaError:
        """Return why the transaction has failed.

        When a record was refused before, later calls say only that the state does not allow them. What
        begins a transaction says why. It is of no more use afterwards.
        """
        error: KafkaError = fault.args[0]
        if error.code() == KafkaError._STATE:
            try:
                self._producer.begin_transaction()
            except KafkaException as refusal:
                error = refusal.args[0]
        return error

    def partitions(self, topic: str) -> list[int]:
        """Of a topic that is there."""
        return list(
            self._producer.list_topics(topic, timeout=self._seconds).topics[topic].partitions
        )

    def purge(self) -> None:
        """Nothing that is queued is sent any more."""
        self._producer.purge()

    def end_forgotten_offsets(self, places: Iterable[TopicPartition], group: object) -> None:
        """End what an earlier transaction of this slot left pending on the group's offsets.

        Without KIP-890 an offset commit that was on its way when the broker died may arrive after its
        transaction was aborted, and then hangs: seen after kill -9 of a broker as a transaction in
        `__consumer_offsets` that its coordinator knows nothing of. The marker of any later
        transaction of the same producer id on the same partition ends it, and an aborted one changes
        nothing else.
        """
        at_beginning = [TopicPartition(place.topic, place.partition, 0) for place in places]
        self._producer.begin_transaction()
        try:
            self.settle(at_beginning, group)
        finally:
            self._producer.abort_transaction(self._seconds)

    def _end_forgotten(self, topics: Iterable[str]) -> None:
        """End what an earlier transaction of this slot left open in the partitions it wrote to.

        Brokers from 4.1 on forget to tell partitions that have no leader at that moment how a
        transaction has ended (KAFKA-20734). What was aborted would then count with this slot's next
        transaction there, and nobody could read past it before. So each start aborts a transaction
        on all of them first (docs/decisions/0012-forgotten-transactions.md).
        """
        known = self._producer.list_topics(timeout=self._seconds).topics
        faults: list[KafkaError] = []

        def written(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                faults.append(error)

        self._producer.begin_transaction()
        for topic in topics:
            for partition in known[topic].partitions if topic in known else ():
                self._producer.produce(topic, NOTHING, NOTHING, partition, on_delivery=written)
        # only what was written is in the transaction
        if left := self._producer.flush(self._seconds):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{left} records not written"))
        if faults:
            raise KafkaException(faults[0])
        self._producer.abort_transaction(self._seconds)


def _is_left(record: dict[str, Any]) -> bool:
    """Whether the producer had no room for it; `KafkaException`: it will never take it."""
    error: KafkaError | None = record.pop("_error", None)
    if error is not None and error.code() != KafkaError._QUEUE_FULL:
        raise KafkaException(error)
    return error is not None
