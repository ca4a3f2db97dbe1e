"""Where a worker had come with its input: what its group has committed, and what it kept beside that.

A group's offsets can be deleted, reset or expire, and a topic that is made anew counts from 0 again
under the same name. Events read a second time would be counted a second time by people's profiles.
So each transaction writes its positions to the compacted topic `positions` as well, with the id of
the topic that they are of, and these count (docs/decisions/0007-kept-positions.md).
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from services.core import topics
from services.core.step import Output
from services.edge.kafka import topic_ids
from services.edge.kafka_partition import read_partition
from services.runtime import logs


class Kept(msgspec.Struct, frozen=True):
    """The value of a record of `positions`; its key is the service, its partition the input's."""

    topic_id: str
    next: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Kept).decode


class GroupPositions:
    """The positions of one service's group on its input topic. `KafkaException`: the broker does not say."""

    def __init__(
        self, options: Mapping[str, Any], service: str, topic: str, seconds: float
    ) -> None:
        self._options = dict(options)
        self._service = service
        self._topic = topic
        self._seconds = seconds
        self._topic_id = ""
        self._log = logs.get(service)

    def outputs(self, position: int) -> list[Output]:
        """What is to be written to the partition of `positions` that has the input's number."""
        return [Output(self._service.encode(), _encode(Kept(self._topic_id, position)))]

    def find(
        self, consumer: Consumer, places: list[TopicPartition]
    ) -> list[tuple[TopicPartition, int | None]]:
        """Each place with the offset to read it from, and its position; None: nothing of it is settled.

        Asks for the group's offsets first: they are answered only when no transaction of a former
        owner is pending on them, and what that one kept is then there to be read.
        """
        if not places:
            return []
        committed = self._committed(consumer, places)
        self._topic_id = topic_ids(self._options, [self._topic], self._seconds)[self._topic]
        return [self._start(consumer, place) for place in committed]

    def _start(
        self, consumer: Consumer, place: TopicPartition
    ) -> tuple[TopicPartition, int | None]:
        first, end = consumer.get_watermark_offsets(place, self._seconds)
        committed = place.offset if place.offset >= 0 else None
        position = self._settled(place.partition, committed, end)
        told = {"topic": self._topic, "partition": place.partition, "position": position}
        if position != committed:
            self._log.warning("the group's offset does not count here", offset=committed, **told)
        if position is not None and position < first:
            self._log.error(
                "deleted before it was read: lengthen the retention", first=first, **told
            )
        if position is not None and position > end:
            self._log.error("the broker has lost what was settled already", end=end, **told)
            position = end
        return TopicPartition(self._topic, place.partition, max(first, position or 0)), position

    def _settled(self, partition: int, committed: int | None, end: int) -> int | None:
        kept = self._kept(partition)
        if kept is not None:
            return kept.next if kept.topic_id == self._topic_id else None
        # of an earlier version, or of a topic of that name before this one
        return committed if committed is not None and committed <= end else None

    def _kept(self, partition: int) -> Kept | None:
        place = TopicPartition(topics.POSITIONS, partition, 0)
        kept = None
        for _, key, value in read_partition(self._options, place, self._seconds):
            if key == self._service.encode() and value is not None:
                kept = _decode(value)
        return kept

    def _committed(self, consumer: Consumer, places: list[TopicPartition]) -> list[TopicPartition]:
        # the broker gives up a transaction that nobody ends after `seconds`
        found: list[TopicPartition] = consumer.committed(places, timeout=self._seconds + 2)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return found
