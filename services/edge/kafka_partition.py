"""Partitions read from one place to their present end, apart from any group."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

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

CHUNK = 10_000


class PartitionReader:
    """Reads with consumers of its own. `KafkaException`: a broker does not answer within `seconds`."""

    def __init__(
        self, options: Mapping[str, Any], seconds: float, fetch_kilobytes: int = 65_536
    ) -> None:
        self._options = dict(options)
        self._seconds = seconds
        self._fetch_kilobytes = fetch_kilobytes
        self._describer: AdminClient | None = None

    def topic_ids(self, names: Collection[str]) -> dict[str, str]:
        """By name: a topic that is made anew has another id. One that is missing is a `KafkaException`."""
        found = self.present_topic_ids(names)
        for name in set(names) - found.keys():
            text = f"the topic {name} is missing: run `weir topics apply`"
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, text))
        return found

    def present_topic_ids(self, names: Collection[str]) -> dict[str, str]:
        """As `topic_ids`, without those that are missing."""
        if self._describer is None:
            self._describer = AdminClient(self._options)
        asked: dict[str, Future[TopicDescription]] = self._describer.describe_topics(
            TopicCollection(sorted(names)), request_timeout=self._seconds
        )
        found = {}
        for name, future in asked.items():
            try:
                found[name] = str(future.result().topic_id)
            except KafkaException as fault:
                if fault.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        return found

    def read_to_end(self, places: Sequence[TopicPartition]) -> Iterator[Message]:
        """Every record that was written before this call and is committed, from these places on.

        Transactions under way are waited for: a commit is told before all of its records can be
        read, and who takes over a partition must see what its former owner had committed.
        """
        ends = self._ends(places)
        left = {place.partition: end for place, end in zip(places, ends, strict=True)}
        wanted = [place for place in places if place.offset < left[place.partition]]
        left = {place.partition: left[place.partition] for place in wanted}
        if not left:
            return  # most often nothing has been missed: no need to fetch to see that
        reader = Consumer(
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
        try:
            reader.assign(wanted)
            yield from self._read(reader, left)
        finally:
            reader.close()

    def _read(self, reader: Consumer, left: dict[int, int]) -> Iterator[Message]:
        # a transaction that nobody ends is given up by the broker, within twice its time
        patience = 6 * self._seconds
        deadline = time.monotonic() + patience
        while left:
            for message in reader.consume(CHUNK, 0.1):
                error, partition = message.error(), message.partition() or 0
                if error is None or error.code() == KafkaError._PARTITION_EOF:
                    deadline = time.monotonic() + patience
                    if (message.offset() or 0) >= left.get(partition, 0):
                        left.pop(partition, None)
                    elif error is None:
                        yield message
                elif not error.retriable():
                    raise KafkaException(error)
            if time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"the ends of {left}"))

    def _ends(self, places: Sequence[TopicPartition]) -> list[int]:
        """Past every record that is there, committed or not."""
        # a new one each time: an older one would ask with the leader epoch from before a broker's
        # restart, be refused for it, and never learn the new one
        admin = AdminClient(self._options)
        asked = admin.list_offsets(
            {TopicPartition(p.topic, p.partition): OffsetSpec.latest() for p in places},
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=self._seconds,
        )
        ends = {at.partition: future.result().offset for at, future in asked.items()}
        return [ends[place.partition] for place in places]
