"""How near to their deletion a group's unread records are, from offsets; records are read only where old ones wait."""

import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import OffsetSpec

from services.core import topics
from services.core.retention import FLOOR, Unread, first_unread, retention_ms, used
from services.edge.faults import NotReachedError, RefusedError
from services.edge.kafka import client_options, is_record, lone_options
from services.edge.kafka_admin import KafkaAdmin
from services.edge.kafka_partition import PartitionReader
from services.edge.kafka_positions import kept_positions, key_of
from services.edge.kafka_search import clear_errors
from services.runtime.config import KafkaSettings

REQUEST_SECONDS = 10.0
READ_SECONDS = 15.0
REST_MS = 20

Place = tuple[str, int]
Groups = Mapping[str, Iterable[str]]


class Span(NamedTuple):
    """The offsets of a partition: its first, the first that is young, and its end."""

    first: int
    young: int  # from here on nothing matters; the end, if all are old
    end: int


class KafkaRetention:
    """Looks again and again, from one thread. `NotReachedError`, `RefusedError`: it could not be told."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._options = {**client_options(settings), "log_level": 0}
        self._admin: KafkaAdmin | None = None

    def look(self, groups: Groups) -> list[Unread]:
        """The oldest unread of each group and topic; share 0 where age deletes nothing, too."""
        try:
            with clear_errors():
                if self._admin is None:
                    self._admin = KafkaAdmin(self._settings, REQUEST_SECONDS)
                with closing(self._admin) as admin:  # its consumers, until the next look
                    return self._look(admin, groups)
        except (NotReachedError, RefusedError):
            self._admin = None
            raise

    def _look(self, admin: KafkaAdmin, groups: Groups) -> list[Unread]:
        counts = {name: topic.partitions for name, topic in admin.topics(False).items()}
        limits = self._limits(admin, {t for read in groups.values() for t in read} & set(counts))
        places = [(topic, number) for topic in limits for number in range(counts[topic])]
        # before the ends, so that what goes from one group to the next meanwhile is not missed
        positions = {
            group: admin.positions(group, [at for at in places if at[0] in read])
            for group, read in groups.items()
        }
        now_ms = time.time_ns() // 1_000_000
        spans = self._spans(admin, {at: int(now_ms - FLOOR * limits[at[0]]) for at in places})
        found = []
        for group, read in groups.items():
            starts = {
                at: first_unread(positions[group].get(at, -1), span.first, span.end)
                for at, span in spans.items()
                if at[0] in read
            }
            oldest = self._oldest(group, starts, spans, counts.get(topics.POSITIONS, 0))
            for topic in read:
                written = [moment for (name, _), moment in oldest.items() if name == topic]
                share = used(min(written), now_ms, limits[topic]) if written else 0.0
                found.append(Unread(group, topic, share))
        return found

    def _spans(self, admin: KafkaAdmin, moments: dict[Place, int]) -> dict[Place, Span]:
        first = admin.offsets(dict.fromkeys(moments, OffsetSpec.earliest()))
        young = admin.offsets({at: OffsetSpec.for_timestamp(ms) for at, ms in moments.items()})
        end = admin.offsets(dict.fromkeys(moments, OffsetSpec.latest()))
        return {
            at: Span(first[at], young[at] if young[at] >= 0 else end[at], end[at])
            for at in first.keys() & young.keys() & end.keys()
        }

    def _limits(self, admin: KafkaAdmin, names: set[str]) -> dict[str, int]:
        limits = {name: retention_ms(c) for name, c in admin.configs(sorted(names)).items()}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def _oldest(
        self,
        group: str,
        starts: dict[Place, int],
        spans: dict[Place, Span],
        kept_partitions: int,
    ) -> dict[Place, int]:
        """When the first unread record was written, of partitions where an old one is unread."""
        oldest = self._written(
            {at: start for at, start in starts.items() if start < spans[at].young}
        )
        kept = self._kept(group, {at for at in oldest if at[1] < kept_partitions})
        further = {at: start for at, start in kept.items() if start > starts[at]}
        read_on = {at: start for at, start in further.items() if start < spans[at].young}
        told = {at: written for at, written in oldest.items() if at not in further}
        return told | self._written(read_on)

    def _kept(self, group: str, places: set[Place]) -> dict[Place, int]:
        """How far the group had come by what it keeps itself: its offsets may be deleted or reset."""
        if not places:
            return {}
        service = group.removeprefix("weir.")
        reader = PartitionReader(self._options, REQUEST_SECONDS)
        ids = reader.topic_ids({topic for topic, _ in places})
        kept = kept_positions(reader, {number for _, number in places}, service)
        found = {}
        for topic, number in places:
            position = kept.get((key_of(service, topic), number))
            if position is not None and position.topic_id == ids[topic]:
                found[topic, number] = position.next
        return found

    def _written(self, starts: Mapping[Place, int]) -> dict[Place, int]:
        """When the first record from each offset on was written, in epoch milliseconds.

        Partitions without one are left out: transactions leave markers that nobody is ever given.
        """
        if not starts:
            return {}
        written: dict[Place, int] = {}
        left = set(starts)
        deadline = time.monotonic() + READ_SECONDS
        options = {"log_level": 0, "fetch.message.max.bytes": 65_536}
        with closing(Consumer({**lone_options(self._settings, REST_MS), **options})) as consumer:
            consumer.assign([TopicPartition(*place, at) for place, at in starts.items()])
            while left:
                if time.monotonic() > deadline:
                    raise NotReachedError("Kafka did not give the oldest unread records in time.")
                first = consumer.poll(0.1)
                for message in [] if first is None else [first, *consumer.consume(1_000, 0)]:
                    place = (message.topic() or "", message.partition() or 0)
                    error = message.error()
                    if place not in left:
                        continue
                    if is_record(message):
                        written[place] = message.timestamp()[1]
                    elif error is None or error.code() != KafkaError._PARTITION_EOF:
                        continue
                    left.discard(place)
                    consumer.pause([TopicPartition(*place)])
        return written
