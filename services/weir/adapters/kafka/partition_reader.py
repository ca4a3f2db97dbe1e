"""Read partitions from given offsets to their present end, outside any group."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec, TopicDescription

from weir.adapters.errors import UnavailableError
from weir.adapters.kafka.clients import admin_client, is_unknown_topic
from weir.adapters.kafka.retry import retry

MOST_RECORDS = 10_000
POLL_BYTES = 2 << 20
POLL_SECONDS = 0.1
# Errors for a partition whose leader has just changed or is about to change.
ELECTING = {
    KafkaError._NOENT,  # from the library: the metadata name no leader
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
}


class Bounds(NamedTuple):
    """The first offset of a partition, and the offset after its last record, committed or not."""

    first: int
    end: int


Bounded = dict[tuple[str, int], Bounds]


class PartitionReader:
    """Reads partitions with its own consumers. `KafkaException` if a broker does not answer within `seconds`."""

    def __init__(
        self, options: Mapping[str, Any], seconds: float, fetch_kilobytes: int = 65_536
    ) -> None:
        self._options = dict(options)
        self._seconds = seconds
        self._fetch_kilobytes = fetch_kilobytes
        self._describer: AdminClient | None = None

    def topic_ids(self, names: Collection[str]) -> dict[str, str]:
        """Return topic ids by name; a recreated topic has another id. `KafkaException` if a topic is missing."""
        found = self.present_topic_ids(names)
        for name in set(names) - found.keys():
            text = f"the topic {name} is missing: run `weir topics apply`"
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, text))
        return found

    def present_topic_ids(self, names: Collection[str]) -> dict[str, str]:
        """Return topic ids by name, without missing topics."""
        if self._describer is None:
            self._describer = admin_client(self._options)
        asked: dict[str, Future[TopicDescription]] = self._describer.describe_topics(
            TopicCollection(sorted(names)), request_timeout=self._seconds
        )
        found = {}
        for name, future in asked.items():
            try:
                found[name] = str(future.result().topic_id)
            except KafkaException as fault:
                if not is_unknown_topic(fault):
                    self._describer = None  # its cached metadata of the brokers may be the cause
                    raise
        return found

    def read_to_end(self, places: Sequence[TopicPartition]) -> Iterator[Message]:
        """Yield every committed record from these places on that was written before this call."""
        with closing(self.open(places)) as reader:
            while reader.remaining():
                yield from reader.poll(POLL_SECONDS)

    def open(self, places: Sequence[TopicPartition]) -> "EndReader":
        """Open a reader of partitions of one topic, from these places to their present ends.

        It waits for open transactions: a commit is acknowledged before all of its records are readable, and
        the next owner of a partition must see what the former owner has committed.
        """
        ends = self._ends(places) if places else []
        wanted = {
            place.partition: (place, end)
            for place, end in zip(places, ends, strict=True)
            if place.offset < end
        }
        if not wanted:
            return EndReader(None, {}, self._seconds)  # usually there is nothing to read
        consumer = Consumer(
            {
                **self._options,
                "group.id": "weir.restore",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 20,
                "queued.max.messages.kbytes": self._fetch_kilobytes,
            }
        )
        consumer.assign([place for place, _ in wanted.values()])
        spans = {partition: (place.offset, end) for partition, (place, end) in wanted.items()}
        return EndReader(consumer, spans, self._seconds)

    def _ends(self, places: Sequence[TopicPartition]) -> list[int]:
        ends = self._offsets(places, OffsetSpec.latest())
        return [ends[place.topic, place.partition] for place in places]

    def bounds(self, places: Sequence[TopicPartition]) -> Bounded:
        """Return the bounds of these partitions by (topic, partition), with two requests to each broker."""
        first, end = (
            self._offsets(places, spec) for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        )
        return {place: Bounds(first[place], end[place]) for place in first}

    def with_open_transactions(self, places: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Return the partitions with records of an open transaction, of any producer.

        Committed reads end before the first of such records. A new leader does not answer before everything
        that was there at its election is replicated (KIP-207), so a transaction from before the election is
        never missed.
        """
        ends = self._offsets(places, OffsetSpec.latest())
        stable = self._offsets(places, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
        return [
            place
            for place in places
            if stable[place.topic, place.partition] < ends[place.topic, place.partition]
        ]

    def _offsets(
        self,
        places: Sequence[TopicPartition],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[tuple[str, int], int]:
        """Return the offset of each partition for a spec; wait for leader elections.

        Each request uses a new client: an older one would ask with the leader epoch from before a broker's
        restart, be refused for it, and never learn the new epoch.
        """
        asked = {TopicPartition(place.topic, place.partition): spec for place in places}
        if not asked:
            return {}

        def ask() -> dict[tuple[str, int], int]:
            admin = admin_client(self._options)  # kept referenced until all answers have arrived
            answers = admin.list_offsets(
                asked, isolation_level=isolation, request_timeout=self._seconds
            )
            return {
                (at.topic, at.partition): future.result().offset for at, future in answers.items()
            }

        return retry(
            ask,
            KafkaException,
            lambda fault: fault.args[0].code() in ELECTING,
            self._seconds,
        )


class EndReader:
    """Reads partitions up to fixed ends. `KafkaException` if no broker sends anything. Close it after use."""

    def __init__(
        self, consumer: Consumer | None, spans: Mapping[int, tuple[int, int]], seconds: float
    ) -> None:
        """`spans`: (start, end) offsets by partition."""
        self._consumer = consumer
        self._at = {partition: start for partition, (start, _) in spans.items()}
        self._ends = {partition: end for partition, (_, end) in spans.items()}
        self._records = 8  # maximum of a poll
        # the broker aborts an abandoned transaction within twice its timeout
        self._patience = 6 * seconds
        self._deadline = time.monotonic() + self._patience

    def remaining(self) -> Mapping[int, int]:
        """Return how many offsets each partition has left to read; partitions read to their end are omitted."""
        return {partition: end - self._at[partition] for partition, end in self._ends.items()}

    def poll(self, seconds: float) -> list[Message]:
        """Return records that arrive within `seconds`."""
        if self._consumer is None:
            return []
        found = []
        for message in self._consumed(self._consumer, seconds):
            error, partition = message.error(), message.partition() or 0
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                self._deadline = time.monotonic() + self._patience
                if self._goes_on(partition, message.offset() or 0) and error is None:
                    found.append(message)
            elif not error.retriable():
                raise KafkaException(error)
        if self._ends and time.monotonic() > self._deadline:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"the ends of {self._ends}"))
        return found

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()

    def _consumed(self, consumer: Consumer, seconds: float) -> list[Message]:
        """Return about POLL_BYTES of messages for any record size: the caller has other work to do in between."""
        first = consumer.poll(seconds)
        if first is None:
            return []
        messages = [first, *consumer.consume(self._records, 0)]
        size = sum(len(message) for message in messages)
        if size > POLL_BYTES:
            self._records = max(1, self._records // 2)
        elif size < POLL_BYTES // 4:
            self._records = min(MOST_RECORDS, 2 * self._records)
        return messages

    def _goes_on(self, partition: int, offset: int) -> bool:
        """Update a partition's position; return whether the offset is before the partition's end."""
        if offset >= self._ends.get(partition, 0):
            self._ends.pop(partition, None)
            return False
        self._at[partition] = offset
        return True


@contextmanager
def unavailable_on_error() -> Iterator[None]:
    """Convert a `KafkaException` into `UnavailableError`."""
    try:
        yield
    except KafkaException as fault:
        raise UnavailableError(f"Kafka does not answer: {fault.args[0].str()}.") from None
