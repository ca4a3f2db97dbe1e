"""The transactions of one slot: its transactional producer, and transactions left open by former processes."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from weir.adapters.errors import RefusedError, UnavailableError
from weir.adapters.kafka.partition_reader import PartitionReader
from weir.adapters.kafka.retry import retry
from weir.core import topics
from weir.core.batch import Output
from weir.core.record_limits import BATCH_BYTES
from weir.runtime import logs
from weir.runtime.ports import FencedError, StreamBrokenError

PRODUCE_CHUNK = 20_000
# Partitions in which one transaction ends forgotten transactions: the coordinator has to write a marker to
# each of them, and to all their replicas, before the transaction times out.
ENDED_AT_ONCE = 16
# A later producer with the same transactional id has started, or the broker has aborted the transaction.
FENCED = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
}
COMMIT_SECONDS = 0.5  # of one call of a commit
NOTHING = b"-"  # content of records that are written only to be aborted
SMALL_BYTES = 1_024


class ReplacedError(RefusedError):
    """A later process has taken over the slot."""


@contextmanager
def transaction_errors(replaced: str, not_taken: str) -> Iterator[None]:
    """Convert errors into `ReplacedError(replaced)` or `UnavailableError(not_taken)` with its `{fault}` filled in."""
    try:
        yield
    except FencedError:
        raise ReplacedError(replaced) from None
    except StreamBrokenError as fault:
        raise UnavailableError(not_taken.format(fault=fault)) from None
    except KafkaException as fault:
        raise UnavailableError(not_taken.format(fault=fault.args[0].str())) from None


class Transactions:
    """The transactional producer of a slot. Transactions are atomic, also those that a former process left open.

    Create a new object at each start and after each uncertain result: librdkafka does not have KIP-890 yet,
    so a producer cannot be trusted after an error. The constructor raises `FencedError` or
    `StreamBrokenError`. Methods raise `KafkaException` or `BufferError`, after which the object is unusable,
    and `FencedError` if a later producer with the same name has started.
    """

    def __init__(
        self, base: Mapping[str, Any], name: str, seconds: int, writes: Iterable[str]
    ) -> None:
        """`name`: the transactional id; `writes`: all topics that its transactions may write to."""
        self._base = base
        self._name = name
        self.seconds = seconds
        self._began_at = time.monotonic()
        self._producer = Producer(
            {
                # fewer, larger requests cost less
                "batch.size": BATCH_BYTES,
                **base,
                "transactional.id": name,
                "transaction.timeout.ms": seconds * 1000,
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": "murmur2_random",
                # a commit flushes, so this causes no delay, and larger requests cost less
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
        """Raise `FencedError` if a later producer has taken the name.

        A broker reports the same error for a transaction that took too long. It aborts none before its
        timeout, so a producer that gets the error earlier was replaced.
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
        """Return why the producer is unusable: only its transactional calls report the reason."""
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
        """Write records. Partition `None`: the record's key decides. An empty value: the key's tombstone."""
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
                # the queue was full: let some records go out, then hand in the remaining ones
                chunk = [record for record in chunk if _is_left(record)]
                self._producer.poll(0.1)

    def write_noting_ends(
        self, topic: str, partition: int, outputs: list[Output], ends: dict[int, int]
    ) -> None:
        """Write as `write` does; when the commit returns, `ends` has the partition's offset after the last output."""

        def written(error: KafkaError | None, message: Message) -> None:
            if error is None:
                ends[message.partition()] = message.offset() + 1

        self.write(topic, partition, outputs[:-1])
        last = outputs[-1]
        # only the offset of the last record is needed, so only that record has a callback
        self._producer.produce(topic, last.value or None, last.key, partition, on_delivery=written)

    def add_offsets(self, places: list[TopicPartition], group: object) -> None:
        """Add the group's offsets of these places to the transaction. `group`: its `consumer_group_metadata`."""
        with self._noticing_a_successor():
            # when a coordinator has died or moved, the transaction itself is still valid
            retry(
                lambda: self._producer.send_offsets_to_transaction(places, group, self.seconds),
                KafkaException,
                lambda fault: bool(fault.args[0].retriable()),
                self.seconds,
            )

    def commit(self) -> None:
        """Commit within `seconds`. If brokers have refused a record, the error has their reason at once.

        A commit waits for all records, also for those of the same partition that are never sent because one
        before them was refused. The reason is in the error of the next call, so each call waits only a part.
        """
        deadline = time.monotonic() + self.seconds
        with self._noticing_a_successor():
            retry(
                lambda: self._producer.commit_transaction(
                    min(COMMIT_SECONDS, max(0.1, deadline - time.monotonic()))
                ),
                KafkaException,
                lambda fault: fault.args[0].code() == KafkaError._TIMED_OUT,
                self.seconds,
                pause=0,
            )

    def require_name(self) -> None:
        """Raise `FencedError` if a later producer has taken the name. `KafkaException` if that is unknown."""
        with suppress(KafkaException):  # a transaction may be open
            self._producer.abort_transaction(self.seconds)
        self._abort_in([TopicPartition(topics.POSITIONS, 0)])

    def accepts(self, writes: Iterable[tuple[str, int | None, list[Output]]]) -> bool:
        """Write small records with the same keys and abort; return whether brokers take all of them.

        If not, this object is unusable afterwards.
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
        """Return why the transaction has failed. This object is unusable afterwards.

        After a record was refused, later calls report only an invalid state. A call that begins a
        transaction reports the reason.
        """
        error: KafkaError = fault.args[0]
        if error.code() == KafkaError._STATE:
            try:
                self._producer.begin_transaction()
            except KafkaException as refusal:
                error = refusal.args[0]
        return error

    def partitions(self, topic: str) -> list[int]:
        """Return the partition numbers of an existing topic."""
        return list(
            self._producer.list_topics(topic, timeout=self.seconds).topics[topic].partitions
        )

    def purge(self) -> None:
        """Drop all queued records without sending them."""
        self._producer.purge()

    def end_forgotten_offsets(self, places: Iterable[TopicPartition], group: object) -> None:
        """End the offset commits that an earlier transaction of this slot left pending in the group.

        Without KIP-890, an offset commit that was in flight when the broker died may arrive after its
        transaction was aborted, and then hangs: after kill -9 of a broker this was observed as a transaction
        in `__consumer_offsets` that its coordinator does not know. The marker of any later transaction of the
        same producer id on the same partition ends it, and an aborted transaction changes nothing else.
        """
        at_beginning = [TopicPartition(place.topic, place.partition, 0) for place in places]
        self.begin()
        try:
            self.add_offsets(at_beginning, group)
        finally:
            self._producer.abort_transaction(self.seconds)

    def _end_forgotten(self, names: Iterable[str]) -> None:
        """End the transactions that this slot left open in the partitions that it wrote to.

        Brokers from 4.1 on do not write the end of a transaction to partitions that have no leader at that
        moment (KAFKA-20734). Aborted records would then be committed with this slot's next transaction in
        the partition, and until then no consumer could read past them. So each start writes and aborts a
        transaction in every partition with an open one, even if it belongs to another producer
        (docs/decisions/0012-forgotten-transactions.md).
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
            logs.get(self._name).info(
                "ending transactions that may have been left open", partitions=len(found)
            )
        for first in range(0, len(found), ENDED_AT_ONCE):
            self._abort_in(found[first : first + ENDED_AT_ONCE])

    def _abort_in(self, places: Sequence[TopicPartition]) -> None:
        """Write a record to each of the partitions, and abort the transaction."""
        faults: list[KafkaError] = []

        def written(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                faults.append(error)

        self.begin()
        for at in places:
            self._producer.produce(at.topic, NOTHING, NOTHING, at.partition, on_delivery=written)
        # flush first: a partition belongs to the transaction only once a record was written to it
        with self._noticing_a_successor():
            if left := self._producer.flush(self.seconds):
                text = f"{left} records not written"
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, text))
            if faults:
                raise KafkaException(faults[0])
            self._producer.abort_transaction(self.seconds)


def _is_left(record: dict[str, Any]) -> bool:
    """Check whether the producer had no room for the record; `KafkaException` if it will never take it."""
    error: KafkaError | None = record.pop("_error", None)
    if error is not None and error.code() != KafkaError._QUEUE_FULL:
        raise KafkaException(error)
    return error is not None
