"""A worker's stream on Kafka: one consumer and one transactional producer that commit together."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from weir.adapters.kafka.clients import (
    HEARTBEAT_SECONDS,
    client_options,
    group_options,
    is_fatal,
    is_replaced,
)
from weir.adapters.kafka.group_member import GroupMember
from weir.adapters.kafka.partition_reader import EndReader, PartitionReader
from weir.adapters.kafka.positions import FoundPosition, GroupPositions
from weir.adapters.kafka.record_limits import REFUSED
from weir.adapters.kafka.retry import retry
from weir.adapters.kafka.transactions import Transactions
from weir.adapters.watchdog import returning_within
from weir.core import topics
from weir.core.batch import Batch
from weir.core.record_limits import LimitsInForce, WeirsOwnLimits
from weir.core.stages import group_of
from weir.runtime.ports import (
    Assignment,
    ChangelogReader,
    ChangelogRecord,
    FencedError,
    RecordRefusedError,
    StreamBrokenError,
    Transaction,
)
from weir.settings.shared import KafkaSettings

LOOK_SECONDS = 5.0  # interval of the topic id check while nothing is committed
LONGEST_TRANSACTION_SECONDS = 60


@dataclass(frozen=True)
class StreamOptions:
    service: str
    topic: str
    instance: int
    writes: tuple[str, ...] = ()  # all topics that a transaction may write to
    batch_records: int = 10_000
    transaction_seconds: int = 20
    session_seconds: int = 10
    fetch_kilobytes: int = 16_384

    @property
    def name(self) -> str:
        return f"weir-{self.service}-{self.instance}"


class KafkaChangelogReader:
    """`weir.runtime.ports.ChangelogReader` on Kafka."""

    def __init__(self, reader: EndReader) -> None:
        self._reader = reader

    def poll(self, seconds: float) -> list[ChangelogRecord]:
        try:
            messages = self._reader.poll(seconds)
        except KafkaException as fault:
            raise StreamBrokenError(str(fault)) from fault
        return [
            ChangelogRecord(m.partition() or 0, m.offset() or 0, m.key() or b"", m.value())
            for m in messages
        ]

    def remaining(self) -> Mapping[int, int]:
        return self._reader.remaining()

    def close(self) -> None:
        self._reader.close()


class KafkaStream:
    """`weir.runtime.ports.Stream` on Kafka. Use it from one thread only."""

    def __init__(
        self, settings: KafkaSettings, options: StreamOptions, limits: LimitsInForce | None = None
    ) -> None:
        self._base = client_options(settings)
        self._limits = limits or WeirsOwnLimits()
        self._options = options
        self._seconds = options.transaction_seconds  # timeout of the next transactions
        self._looked_at = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        """Create everything that connects to a broker, at the start and at each recovery."""
        options = self._options
        seconds = options.transaction_seconds
        self._reader = PartitionReader(self._base, seconds, options.fetch_kilobytes)
        self._positions = GroupPositions(self._reader, options.service, seconds)
        self._transactions = self._new_transactions()
        group = group_options(
            group_of(options.service),
            options.name,
            options.session_seconds,
            options.fetch_kilobytes,
        )
        self._member = GroupMember(
            {**self._base, **group, "fetch.message.max.bytes": 2_097_152},
            [options.topic],
            self._positions,
            _raise_broken,
            self._found,
        )
        self._consumer = self._member.consumer

    # --- input

    def poll(self, seconds: float) -> list[Batch]:
        messages = self._consumer.consume(self._options.batch_records, seconds)
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            with suppress(KafkaException):  # no transaction depends on the answer yet
                self._require_same_topic()
        topic = self._options.topic
        columns: dict[int, Batch] = {}
        ends: dict[int, int] = {}
        for message in messages:
            partition = message.partition()
            if (error := message.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    # the next offset to read, after any transaction markers
                    ends[partition] = message.offset()
                else:
                    self._raise_if_grave(error)
                continue
            batch = columns.get(partition)
            if batch is None:
                topic_id = self._positions.topic_id(topic)
                batch = columns[partition] = Batch(topic, partition, [], [], [], [], topic_id)
            batch.offsets.append(message.offset())
            batch.timestamps.append(message.timestamp()[1])
            batch.keys.append(message.key() or b"")
            batch.values.append(message.value() or b"")
        owned = {partition for _, partition in self._member.owned}
        for partition in owned & (columns.keys() | ends.keys()):
            read = columns[partition].position if partition in columns else 0
            self._member.reading.advance((topic, partition), max(read, ends.get(partition, 0)))
        return [batch for partition, batch in columns.items() if partition in owned]

    def assignment(self) -> Assignment:
        rebalanced = self._member.take_rebalanced()
        gained = {at.partition: at.position for at in self._member.take_gained().values()}
        lost = {partition for _, partition in self._member.take_lost()}
        return Assignment(gained, lost, rebalanced)

    def start(self, partition: int) -> None:
        try:
            self._member.resume([(self._options.topic, partition)])
        except KafkaException as fault:
            raise StreamBrokenError(str(fault)) from fault

    def lag(self) -> Mapping[int, int]:
        return {partition: records for (_, partition), records in self._member.waiting().items()}

    # --- state

    def changelog(self, topic: str, starts: Mapping[int, int]) -> ChangelogReader:
        """See the port. Uses a separate consumer, so that the group's consumer is not disturbed."""
        places = [TopicPartition(topic, partition, at) for partition, at in starts.items()]
        try:
            return KafkaChangelogReader(self._reader.open(places))
        except KafkaException as fault:
            raise StreamBrokenError(str(fault)) from fault

    # --- output

    def commit(self, transaction: Transaction) -> Mapping[int, int]:
        transactions = self._transactions
        ends: dict[int, int] = {}
        self._require_same_topic_in_time()
        try:
            # twice the time after which the broker has aborted the transaction anyway
            with returning_within(2 * self._transactions.seconds):
                transactions.begin()
                for topic, partition, outputs in transaction.writes:
                    transactions.write(topic, partition, outputs)
                for topic, number, outputs in transaction.changelog:
                    transactions.write_noting_ends(topic, number, outputs, ends)
                for number, position in transaction.inputs.items():
                    kept = self._positions.output(self._options.topic, position)
                    transactions.write(topics.POSITIONS, number, [kept])
                if transaction.inputs:
                    transactions.add_offsets(
                        self._places(transaction.inputs), self._consumer.consumer_group_metadata()
                    )
                transactions.commit()
        except (KafkaException, BufferError, FencedError) as fault:
            self._raise_if_refused(fault)
            self._end_if_replaced()
            raise StreamBrokenError(str(fault)) from fault
        self._seconds = self._options.transaction_seconds
        return ends

    def accepts(self, transaction: Transaction) -> bool:
        changelog = [(topic, number, outputs) for topic, number, outputs in transaction.changelog]
        try:
            with returning_within(2 * self._transactions.seconds):
                return self._transactions.accepts([*transaction.writes, *changelog])
        except (KafkaException, BufferError, FencedError) as fault:
            self._end_if_replaced()
            raise StreamBrokenError(str(fault)) from fault

    def _raise_if_refused(self, fault: KafkaException | BufferError | FencedError) -> None:
        """Raise `RecordRefusedError` if brokers answered and refused a record.

        The producer is replaced, because its next transaction would fail with OUT_OF_ORDER_SEQUENCE_NUMBER;
        the new producer aborts the transaction. The consumer is not affected.
        """
        if not isinstance(fault, KafkaException):
            return
        error = self._transactions.reason(fault)
        if error.code() not in REFUSED:
            return
        with returning_within(2 * self._transactions.seconds):
            self._transactions.purge()
            self._transactions = self._new_transactions()
        raise RecordRefusedError(error.str()) from fault

    def _require_same_topic_in_time(self) -> None:
        """Call `_require_same_topic`; no transaction has begun, so wait if brokers do not answer."""
        try:
            retry(
                self._require_same_topic,
                KafkaException,
                lambda fault: True,
                LONGEST_TRANSACTION_SECONDS / 2,
            )
        except KafkaException as fault:
            raise StreamBrokenError(str(fault)) from fault

    def _require_same_topic(self) -> None:
        """Raise `StreamBrokenError` if the topic was deleted and created again: see `GroupPositions.remade`."""
        self._looked_at = time.monotonic()
        if remade := self._positions.remade():
            raise StreamBrokenError(f"{remade[0]} was deleted and created again")

    def _end_if_replaced(self) -> None:
        """Raise `FencedError` if a transaction failed because another process has this slot.

        A recovery would then fence the successor in turn. The producer's error is not enough: it may also
        mean that the transaction took too long. A replaced member learns of it with its next heartbeat.
        """
        deadline = time.monotonic() + 3 * HEARTBEAT_SECONDS
        while time.monotonic() < deadline:
            # records read here are read again after the recovery
            for message in self._consumer.consume(1_000, HEARTBEAT_SECONDS / 10):
                if (error := message.error()) is not None:
                    self._raise_if_grave(error)

    def _require_slot(self) -> None:
        """Raise `FencedError` if another process has the slot: it then has the transactional id too."""
        with returning_within(4 * self._transactions.seconds), suppress(KafkaException):
            self._transactions.require_name()

    def recover(self) -> None:
        # The producer is discarded after any uncertain result: see `Transactions`. Everything else is discarded
        # too: it may wait for a broker that is gone, and one way to start is better than two.
        with returning_within(2 * self._transactions.seconds):
            self._transactions.purge()
            self.close()
        # until the next commit, allow more time: brokers may be too slow for the timeout for a while
        self._seconds = min(2 * self._seconds, LONGEST_TRANSACTION_SECONDS)
        self._begin()

    def close(self) -> None:
        self._member.close()

    def _places(self, inputs: Mapping[int, int]) -> list[TopicPartition]:
        return [self._positions.place(self._options.topic, p, at) for p, at in inputs.items()]

    def _new_transactions(self) -> Transactions:
        options = self._options
        base = {**self._base, "batch.size": self._limits.present.batch}
        return Transactions(base, options.name, self._seconds, options.writes)

    def _found(self, consumer: Consumer, places: list[TopicPartition]) -> list[FoundPosition]:
        """Return the positions, after ending a transaction that a former owner left open on its offsets."""
        try:
            return self._positions.find(consumer, places)
        except KafkaException as fault:
            if fault.args[0].code() != KafkaError._TIMED_OUT:
                raise
        with returning_within(2 * self._transactions.seconds):
            self._transactions.end_forgotten_offsets(places, consumer.consumer_group_metadata())
        return self._positions.find(consumer, places)

    def _raise_if_grave(self, error: KafkaError) -> None:
        if is_replaced(error):
            self._require_slot()
        if is_fatal(error) or error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise StreamBrokenError(str(error))


def _raise_broken(fault: KafkaException) -> None:
    raise StreamBrokenError(str(fault)) from fault
