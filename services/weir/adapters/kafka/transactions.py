"""A slot's transactions: one transactional producer, and what its former processes left to be ended."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from weir.adapters.errors import NotReachedError, RefusedError
from weir.adapters.kafka.partition_reader import PartitionReader
from weir.adapters.kafka.retry import retry
from weir.core import topics
from weir.core.batch import Output
from weir.core.record_limits import BATCH_BYTES
from weir.runtime import logs
from weir.runtime.ports import FencedError, StreamBrokenError

PRODUCE_CHUNK = 20_000
# Partitions that one transaction ends forgotten ones in: a coordinator has to tell each of them, and
# all their replicas, while the transaction's time runs.
ENDED_AT_ONCE = 16
# A later producer of the same transactional id has begun, or the broker gave the transaction up.
FENCED = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
}
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
        raise NotReachedError(not_taken.format(fault=fault.args[0].str())) from None


class Transactions:
    """Each is whole or nothing, and so is what a former process of this slot left open.

    One is made for each start and after each doubt: librdkafka has no KIP-890 yet, so that a producer
    cannot be trusted after an error. `FencedError`, `StreamBrokenError`: not made. Its methods raise
    `KafkaException` and `BufferError`, after which it is of no more use, and `FencedError` where a
    later producer with this name has begun.
    """

    def __init__(
        self, base: Mapping[str, Any], name: str, seconds: int, writes: Iterable[str]
    ) -> None:
        """`name`: the transactional id; `writes`: every topic that its transactions may write to."""
        self._base = base
        self._name = name
        self.seconds = seconds
        self._began_at = time.monotonic()
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
            with self._noticing_a_successor():
                self._producer.init_transactions(seconds * 3)
            self._end_forgotten(writes)
        except KafkaException as fault:
            raise StreamBrokenError(str(fault)) from fault

    @contextmanager
    def _noticing_a_successor(self) -> Iterator[None]:
        """`FencedError` if a later producer has taken the name.

        A broker says the same of a transaction that has taken too long. It gives none up before its
        time, so whoever is told sooner was replaced.
        """
        try:
            yield
        except (KafkaException, SystemError) as fault:
            # SystemError: a callback was called while the fatal error was being raised
            error = fault.args[0] if isinstance(fault, KafkaException) else self._fatal_error()
            if error.code() == KafkaError._FATAL:
                error = self._fatal_error()
            if error.code() in FENCED and time.monotonic() - self._began_at < self.seconds:
                raise FencedError(str(error)) from fault
            raise KafkaException(error) from fault

    def _fatal_error(self) -> KafkaError:
        """Why the producer is of no more use: only its transactional calls say it."""
        try:
            self._producer.begin_transaction()
        except KafkaException as fault:
            error: KafkaError = fault.args[0]
            return error
        return KafkaError(KafkaError._FATAL)

    def begin(self) -> None:
        with self._noticing_a_successor():
            self._producer.begin_transaction()
        self._began_at = time.monotonic()

    def write(self, topic: str, partition: int | None, outputs: Iterable[Output]) -> None:
        """`None` as partition: by the record's key. An empty value: the key's tombstone."""
        records: list[dict[str, Any]] = [
            {"key": key, "value": value or None} for key, value in outputs
        ]
        options = {} if partition is None else {"partition": partition}
        while records:
            chunk, records = records[:PRODUCE_CHUNK], records[PRODUCE_CHUNK:]
            while chunk:
                with self._noticing_a_successor():
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
        with self._noticing_a_successor():
            # after a coordinator has died or moved the transaction itself is sound
            retry(
                lambda: self._producer.send_offsets_to_transaction(places, group, self.seconds),
                KafkaException,
                lambda fault: bool(fault.args[0].retriable()),
                self.seconds,
            )

    def commit(self) -> None:
        with self._noticing_a_successor():
            self._producer.commit_transaction(self.seconds)

    def require_name(self) -> None:
        """`FencedError` if a later producer has taken the name. `KafkaException`: that cannot be told."""
        with suppress(KafkaException):  # there may be one under way
            self._producer.abort_transaction(self.seconds)
        self._abort_in([TopicPartition(topics.POSITIONS, 0)])

    def accepts(self, writes: Iterable[tuple[str, int | None, list[Output]]]) -> bool:
        """Write small records under the same keys and abort; return whether brokers take all of them.

        If not, it is of no more use.
        """
        faults: list[KafkaError] = []

        def written(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                faults.append(error)

        self.begin()
        for topic, partition, outputs in writes:
            options = {} if partition is None else {"partition": partition}
            for output in outputs:
                key = output.key[:SMALL_BYTES]
                self._producer.produce(topic, NOTHING, key, on_delivery=written, **options)
        with self._noticing_a_successor():
            if self._producer.flush(self.seconds) or faults:
                return False
            self._producer.abort_transaction(self.seconds)
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
            self._producer.list_topics(topic, timeout=self.seconds).topics[topic].partitions
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
        self.begin()
        try:
            self.settle(at_beginning, group)
        finally:
            self._producer.abort_transaction(self.seconds)

    def _end_forgotten(self, names: Iterable[str]) -> None:
        """End what an earlier transaction of this slot left open in the partitions it wrote to.

        Brokers from 4.1 on forget to tell partitions that have no leader at that moment how a
        transaction has ended (KAFKA-20734). What was aborted would then count with this slot's next
        transaction there, and nobody could read past it before. So each start aborts a transaction
        wherever one is open, be it another's (docs/decisions/0012-forgotten-transactions.md).
        """
        known = self._producer.list_topics(timeout=self.seconds).topics
        places = [
            TopicPartition(topic, partition)
            for topic in names
            if topic in known
            for partition in known[topic].partitions
        ]
        found = PartitionReader(self._base, self.seconds).with_open_transactions(places)
        if found:
            logs.get(self._name).info("ending what may have been left open", partitions=len(found))
        for first in range(0, len(found), ENDED_AT_ONCE):
            self._abort_in(found[first : first + ENDED_AT_ONCE])

    def _abort_in(self, places: Sequence[TopicPartition]) -> None:
        """Write to each of the partitions, and abort."""
        faults: list[KafkaError] = []

        def written(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                faults.append(error)

        self.begin()
        for at in places:
            self._producer.produce(at.topic, NOTHING, NOTHING, at.partition, on_delivery=written)
        # only what was written is in the transaction
        with self._noticing_a_successor():
            if left := self._producer.flush(self.seconds):
                text = f"{left} records not written"
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, text))
            if faults:
                raise KafkaException(faults[0])
            self._producer.abort_transaction(self.seconds)


def _is_left(record: dict[str, Any]) -> bool:
    """Whether the producer had no room for it; `KafkaException`: it will never take it."""
    error: KafkaError | None = record.pop("_error", None)
    if error is not None and error.code() != KafkaError._QUEUE_FULL:
        raise KafkaException(error)
    return error is not None
