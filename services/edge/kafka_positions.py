"""Where a group had come with its topics: what it has committed, and what was kept beside that.

A group's offsets can be deleted, reset or expire, and a topic that is made anew counts from 0 again
under the same name. Events read a second time would be counted a second time. So positions are
written to the compacted topic `positions` as well, with the id of the topic that they are of
(docs/decisions/0007-kept-positions.md).
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.core import topics
from services.core.step import Output
from services.edge.kafka import topic_ids
from services.edge.kafka_partition import read_to_end
from services.runtime import logs


class Found(NamedTuple):
    """A partition, and where the group had come with it."""

    topic: str
    partition: int
    topic_id: str
    position: int | None  # None: nothing of it is settled
    metadata: str  # what was committed with the position
    first: int  # the offset to read from

    def start(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition, self.first)


class Kept(msgspec.Struct, frozen=True):
    """The value of a record of `positions`. Its key is service and topic, its partition the topic's."""

    topic_id: str
    next: int
    metadata: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Kept).decode


class Positions:
    """The positions of one service's group. `KafkaException`: the broker does not say.

    `kept_first`: what was kept outranks the group's offsets, as the two are written in one
    transaction; otherwise it counts where the group has none.
    """

    def __init__(
        self, options: Mapping[str, Any], service: str, seconds: float, kept_first: bool
    ) -> None:
        self._options = dict(options)
        self._service = service
        self._seconds = seconds
        self._kept_first = kept_first
        self._ids: dict[str, str] = {}
        self._log = logs.get(service)

    def output(self, topic: str, position: int, metadata: str = "") -> Output:
        """What is to be written to the partition of `positions` that has the topic's number."""
        return Output(self._key(topic), _encode(Kept(self._ids[topic], position, metadata)))

    def find(self, consumer: Consumer, places: list[TopicPartition]) -> list[Found]:
        """Asks for the group's offsets first: they are answered only when no transaction of a former

        owner is pending on them, and what that one kept is then there to be read.
        """
        if not places:
            return []
        committed = self._committed(consumer, places)
        self._ids = topic_ids(self._options, {at.topic for at in places}, self._seconds)
        kept = self._kept({at.partition for at in places})
        return [
            self._found(consumer, at, kept.get((self._key(at.topic), at.partition)))
            for at in committed
        ]

    def _found(self, consumer: Consumer, committed: TopicPartition, kept: Kept | None) -> Found:
        first, end = consumer.get_watermark_offsets(committed, self._seconds)
        topic, partition = committed.topic, committed.partition
        position, metadata = self._settled(committed, kept, end)
        told = {"topic": topic, "partition": partition, "position": position}
        if position is None and committed.offset >= 0:
            self._log.warning("the topic was made anew: reading it from its beginning", **told)
        if position is not None and position < first:
            self._log.error(
                "deleted before it was read: lengthen the retention", first=first, **told
            )
        if position is not None and position > end:
            self._log.error("the broker has lost what was settled already", end=end, **told)
            position, metadata = end, ""
        read_from = max(first, position or 0)
        return Found(topic, partition, self._ids[topic], position, metadata, read_from)

    def _settled(
        self, committed: TopicPartition, kept: Kept | None, end: int
    ) -> tuple[int | None, str]:
        of_group = committed.offset if committed.offset >= 0 else None
        if kept is None:  # of an earlier version, or of a topic of that name before this one
            return (of_group, committed.metadata or "") if (of_group or 0) <= end else (None, "")
        if kept.topic_id != self._ids[committed.topic]:
            return None, ""
        if of_group is None or self._kept_first:
            return kept.next, kept.metadata
        return of_group, committed.metadata or ""

    def _kept(self, partitions: Iterable[int]) -> dict[tuple[bytes, int], Kept]:
        kept = {}
        places = [TopicPartition(topics.POSITIONS, partition, 0) for partition in partitions]
        for message in read_to_end(self._options, places, self._seconds):
            if (value := message.value()) is not None:
                kept[message.key() or b"", message.partition() or 0] = _decode(value)
        return kept

    def _key(self, topic: str) -> bytes:
        return f"{self._service}/{topic}".encode()

    def _committed(self, consumer: Consumer, places: list[TopicPartition]) -> list[TopicPartition]:
        # the broker gives up a transaction that nobody ends after `seconds`
        found: list[TopicPartition] = consumer.committed(places, timeout=self._seconds + 2)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return found
