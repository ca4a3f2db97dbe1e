"""The positions of a group in its topics, with the ids of the topics to which they belong.

A group's offsets can be deleted, reset or expire, and a topic that is deleted and created again under the same
name starts at offset 0. Events that are read twice would be counted twice. So the topic's id is committed with
each offset, and both are also kept in the compacted topic `positions`, which is read where the group's offset
is not conclusive (docs/decisions/0007-kept-positions.md).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.partition_reader import Bounds, PartitionReader
from weir.core import topics
from weir.core.batch import Output
from weir.runtime import logs

SHOWN = 20  # partitions in one log line


class FoundPosition(NamedTuple):
    """A partition and the group's position in it."""

    topic: str
    partition: int
    topic_id: str
    position: int | None  # None: nothing is settled
    metadata: str  # committed with the position
    first: int  # the offset to read from
    end: int  # after the partition's last record
    is_committed: bool  # whether the group's committed offset is the same

    def start(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition, self.first)


class KeptPosition(msgspec.Struct, frozen=True):
    """The value of a record of `positions`. Its key is service and topic; its partition number is the topic's."""

    topic_id: str
    next: int
    metadata: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(KeptPosition).decode


class GroupPositions:
    """The positions of one service's group. `KafkaException` if the broker does not answer."""

    def __init__(self, reader: PartitionReader, service: str, seconds: float) -> None:
        self._reader = reader
        self._service = service
        self._seconds = seconds
        self._ids: dict[str, str] = {}
        self._log = logs.get(service)

    def topic_id(self, topic: str) -> str:
        """Return the id of a topic from the last call of `find`; empty: unknown."""
        return self._ids.get(topic, "")

    def place(
        self, topic: str, partition: int, position: int, metadata: str = ""
    ) -> TopicPartition:
        """Return the offset to commit, with the topic's id in its metadata."""
        return TopicPartition(topic, partition, position, f"{self._ids[topic]} {metadata}")

    def output(self, topic: str, position: int, metadata: str = "") -> Output:
        """Return the record to write to the partition of `positions` with the same number as the topic's."""
        return Output(self._key(topic), _encode(KeptPosition(self._ids[topic], position, metadata)))

    def find(self, consumer: Consumer, places: list[TopicPartition]) -> list[FoundPosition]:
        """Return the group's positions, once no transaction of a former owner is pending on its offsets."""
        if not places:
            return []
        committed = self._committed(consumer, places)
        # includes `positions`, so that a missing topic fails here: without it nothing could be settled
        self._ids = self._reader.topic_ids({topics.POSITIONS, *(at.topic for at in places)})
        trusted = [self._trusted_position(at) for at in committed]
        unsure = {at.partition for at, of in zip(committed, trusted, strict=True) if of is None}
        kept = kept_positions(self._reader, unsure, self._service)
        bounds = self._reader.bounds(places)
        known = [
            of or self._recovered_position(bounds[at.topic, at.partition], at, kept)
            for at, of in zip(committed, trusted, strict=True)
        ]
        self._log_recovered_positions(
            [(at, kn) for at, of, kn in zip(committed, trusted, known, strict=True) if of is None]
        )
        return [
            self._found(bounds[at.topic, at.partition], at, position, of is not None)
            for at, of, position in zip(committed, trusted, known, strict=True)
        ]

    def remade(self) -> list[str]:
        """Return the topics that were deleted and created again since `find`. `KafkaException`.

        A consumer does not notice it: librdkafka adopts the new topic's id and continues at the old offset,
        so it skips records if the new topic is longer than that; if the leader epoch has restarted from a
        lower number, it reads nothing any more. Records of other topics that were read before this call
        belong to the topics whose ids `find` has seen.
        """
        ids = self._reader.present_topic_ids(self._ids) if self._ids else {}
        return sorted(name for name, found in ids.items() if found != self._ids[name])

    def commit_missing(self, consumer: Consumer, found: list[FoundPosition]) -> None:
        """Commit positions that the group's offsets lack. Only tools that show the group's lag depend on it."""
        places = [
            self.place(at.topic, at.partition, at.position, at.metadata)
            for at in found
            if at.position is not None and not at.is_committed
        ]
        if not places:
            return
        try:
            consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as fault:
            self._log.warning(
                "positions not committed to the group: its offsets show a wrong lag until the next commit",
                fault=str(fault),
            )

    def _trusted_position(self, committed: TopicPartition) -> KeptPosition | None:
        """Return the position in the group's offset if it is from this very topic; None if that is uncertain."""
        topic_id, _, metadata = (committed.metadata or "").partition(" ")
        if committed.offset < 0 or topic_id != self._ids[committed.topic]:
            return None
        return KeptPosition(topic_id, committed.offset, metadata)

    def _recovered_position(
        self, bounds: Bounds, committed: TopicPartition, kept: dict[tuple[bytes, int], KeptPosition]
    ) -> KeptPosition | None:
        """Return the later of the kept position and an offset without a topic id; None if nothing is settled.

        So a worker does not go back if an operator resets an offset to an earlier one.
        """
        topic_id = self._ids[committed.topic]
        of_group = None
        # committed by an earlier version or by an operator: the metadata have no topic id
        if committed.offset >= 0 and (committed.metadata or "")[:1] in ("", "{"):
            of_group = KeptPosition(topic_id, committed.offset, committed.metadata or "")
        found = kept.get((self._key(committed.topic), committed.partition))
        if found is None:
            settled = of_group if of_group and of_group.next <= bounds.end else None
        elif found.topic_id != topic_id:
            settled = None
        else:
            settled = of_group if of_group and of_group.next > found.next else found
        return settled

    def _log_recovered_positions(
        self, recovered: list[tuple[TopicPartition, KeptPosition | None]]
    ) -> None:
        """Log one line for all partitions of a first start, and one for those whose offsets were lost or reset."""
        first = [at for at, settled in recovered if settled is None and at.offset < 0]
        if first:
            names = sorted({at.topic for at in first})
            self._log.info(
                "first start: reading from the beginning", topics=names, partitions=len(first)
            )
        others = {
            f"{at.topic}-{at.partition}": (at.offset, settled.next if settled else None)
            for at, settled in recovered
            if settled is not None or at.offset >= 0
        }
        if others:
            self._log.warning(
                "the group's offsets do not show how far this service had read",
                partitions=len(others),
                offsets_and_positions=dict(list(others.items())[:SHOWN]),
            )

    def _found(
        self, bounds: Bounds, at: TopicPartition, settled: KeptPosition | None, is_committed: bool
    ) -> FoundPosition:
        first, end = bounds
        topic_id = self._ids[at.topic]
        if settled is None:
            return FoundPosition(
                at.topic, at.partition, topic_id, None, "", first, end, is_committed
            )
        position, metadata = settled.next, settled.metadata
        fields = {"topic": at.topic, "partition": at.partition, "position": position}
        if position < first:
            self._log.error(
                "records were deleted before they were read: lengthen the retention",
                first=first,
                **fields,
            )
        if position > end:
            self._log.error(
                "the broker has lost records that were processed already", end=end, **fields
            )
            position, metadata = end, ""
        read_from = max(first, position)
        place = (at.topic, at.partition, topic_id)
        return FoundPosition(*place, position, metadata, read_from, end, is_committed)

    def _key(self, topic: str) -> bytes:
        return key_of(self._service, topic)

    def _committed(self, consumer: Consumer, places: list[TopicPartition]) -> list[TopicPartition]:
        # the broker aborts an abandoned transaction after `seconds`
        found: list[TopicPartition] = consumer.committed(places, timeout=self._seconds + 2)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return found


def key_of(service: str, topic: str) -> bytes:
    return f"{service}/{topic}".encode()


def kept_positions(
    reader: PartitionReader, partitions: Iterable[int], service: str
) -> dict[tuple[bytes, int], KeptPosition]:
    """Return a service's kept positions of partitions with these numbers, by (`key_of`, number)."""
    kept = {}
    own = key_of(service, "")
    places = [TopicPartition(topics.POSITIONS, partition, 0) for partition in partitions]
    for message in reader.read_to_end(places):
        key, value = message.key() or b"", message.value()
        if value is None or not key.startswith(own):
            continue
        try:
            kept[key, message.partition() or 0] = _decode(value)
        except msgspec.DecodeError as fault:
            fields = {"key": key.decode("utf-8", "replace"), "fault": str(fault)}
            logs.get(service).error("a kept position cannot be read", **fields)
    return kept


def settled_positions(
    admin: KafkaAdmin, group: str, places: Iterable[tuple[str, int]], ids: Mapping[str, str]
) -> dict[tuple[str, int], int]:
    """Return the group's committed offsets in the topics with these ids; partitions without one are omitted.

    A committed offset may be from an earlier topic of the same name. An offset without a topic id, for
    example an operator's, is taken for one of those if it is beyond the partition's end.
    """
    committed = admin.committed(group, places)
    asked = {(at.topic, at.partition): OffsetSpec.latest() for at in committed}
    ends = admin.offsets(asked)
    found = {}
    for at in committed:
        topic_id = (at.metadata or "").partition(" ")[0]
        is_silent = topic_id[:1] in ("", "{")
        place = (at.topic, at.partition)
        is_there = 0 <= at.offset <= ends.get(place, -1)
        if is_there and (is_silent or topic_id == ids.get(at.topic)):
            found[place] = at.offset
    return found
