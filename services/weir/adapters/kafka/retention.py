"""Measure how close unread records are to deletion, by offsets; records are read only where old ones are unread.

If they are so close that new events are rejected, a sample of the records shows which sources they have.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from weir.adapters.avro import source_of
from weir.adapters.errors import RefusedError, UnavailableError
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.clients import client_options, is_record, lone_options
from weir.adapters.kafka.partition_reader import PartitionReader, unavailable_on_error
from weir.adapters.kafka.positions import kept_positions, key_of
from weir.core import topics
from weir.core.retention import FLOOR, RetentionUse, first_unread, heaviest, retention_ms, used
from weir.core.stages import service_of
from weir.core.topics import PartitionKey
from weir.settings.shared import KafkaSettings

REQUEST_SECONDS = 10.0
READ_SECONDS = 15.0
REST_MS = 20
SPOTS = 32  # number of spots of a topic at which a sample reads; at least one per partition
RECORDS = 25  # maximum of records to read at each spot

GroupTopics = Mapping[str, Iterable[str]]


class RetentionSpan(NamedTuple):
    """Offsets of a partition: its first record, its first young record, and its end."""

    first: int
    young: int  # records from here on are ignored; equal to `end` if all are old
    end: int


class OldestUnread(NamedTuple):
    """The first record of a partition that a group has not read, if it is an old one."""

    offset: int  # the record is the first at or after this offset
    written_ms: int


class KafkaRetention:
    """Measures the use of the retention repeatedly, from one thread. `UnavailableError`, `RefusedError`."""

    def __init__(self, settings: KafkaSettings, named_from: float) -> None:
        """`named_from`: the used share from which on `look` also determines the sources; 0: never."""
        self._settings = settings
        self._named_from = named_from
        self._options = {**client_options(settings), "log_level": 0}
        self._admin: KafkaAdmin | None = None

    def measure(self, groups: GroupTopics) -> list[RetentionUse]:
        """Return the retention use by each group and topic; share 0 also for topics that never delete by age."""
        try:
            with unavailable_on_error():
                if self._admin is None:
                    self._admin = KafkaAdmin(self._settings, REQUEST_SECONDS)
                with closing(self._admin) as admin:  # closes its consumers until the next look
                    return self._look(admin, groups)
        except (UnavailableError, RefusedError):
            self._admin = None
            raise

    def _look(self, admin: KafkaAdmin, groups: GroupTopics) -> list[RetentionUse]:
        counts = {name: topic.partitions for name, topic in admin.topics(False).items()}
        limits = self._limits(admin, {t for read in groups.values() for t in read} & set(counts))
        places = [(topic, number) for topic in limits for number in range(counts[topic])]
        # before the ends, so that a record that passes from one group to the next meanwhile is not missed
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
                shares = {
                    at: used(first.written_ms, now_ms, limits[topic])
                    for at, first in oldest.items()
                    if at[0] == topic
                }
                unread = RetentionUse(group, topic, max(shares.values(), default=0.0))
                if unread.near(self._named_from):
                    near = {
                        at: range(oldest[at].offset, spans[at].young)
                        for at, share in shares.items()
                        if share >= self._named_from
                    }
                    unread = replace(unread, sources=heaviest(self._weights(near)))
                found.append(unread)
        return found

    def _spans(
        self, admin: KafkaAdmin, moments: dict[PartitionKey, int]
    ) -> dict[PartitionKey, RetentionSpan]:
        first = admin.offsets(dict.fromkeys(moments, OffsetSpec.earliest()))
        young = admin.offsets({at: OffsetSpec.for_timestamp(ms) for at, ms in moments.items()})
        end = admin.offsets(dict.fromkeys(moments, OffsetSpec.latest()))
        return {
            at: RetentionSpan(first[at], young[at] if young[at] >= 0 else end[at], end[at])
            for at in first.keys() & young.keys() & end.keys()
        }

    def _limits(self, admin: KafkaAdmin, names: set[str]) -> dict[str, int]:
        limits = {name: retention_ms(c) for name, c in admin.configs(sorted(names)).items()}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def _oldest(
        self,
        group: str,
        starts: dict[PartitionKey, int],
        spans: dict[PartitionKey, RetentionSpan],
        kept_partitions: int,
    ) -> dict[PartitionKey, OldestUnread]:
        """Return the first unread record of each partition where an old record is unread."""
        oldest = self._first({at: start for at, start in starts.items() if start < spans[at].young})
        kept = self._kept(group, {at for at in oldest if at[1] < kept_partitions})
        further = {at: start for at, start in kept.items() if start > starts[at]}
        read_on = {at: start for at, start in further.items() if start < spans[at].young}
        confirmed = {at: first for at, first in oldest.items() if at not in further}
        return confirmed | self._first(read_on)

    def _kept(self, group: str, places: set[PartitionKey]) -> dict[PartitionKey, int]:
        """Return the group's positions from the topic `positions`: its committed offsets may be deleted or reset."""
        if not places:
            return {}
        service = service_of(group)
        reader = PartitionReader(self._options, REQUEST_SECONDS)
        ids = reader.topic_ids({topic for topic, _ in places})
        kept = kept_positions(reader, {number for _, number in places}, service)
        found = {}
        for topic, number in places:
            position = kept.get((key_of(service, topic), number))
            if position is not None and position.topic_id == ids[topic]:
                found[topic, number] = position.next
        return found

    def _first(self, starts: Mapping[PartitionKey, int]) -> dict[PartitionKey, OldestUnread]:
        """Return the first record at or after each offset.

        Partitions without one are omitted: transactions leave markers, which consumers never get.
        """
        found: dict[PartitionKey, OldestUnread] = {}

        def keep(place: PartitionKey, message: Message) -> bool:
            found[place] = OldestUnread(starts[place], message.timestamp()[1])
            return True

        if starts:
            with closing(self._consumer()) as consumer:
                self._read(consumer, starts, keep, time.monotonic() + READ_SECONDS)
        return found

    def _weights(self, spans: Mapping[PartitionKey, range]) -> dict[str, float]:
        """Estimate from a sample how many records of each source are between these offsets.

        Return {} if the sample could not be read in time: that the records are old is known anyway.
        """
        weights: dict[str, float] = defaultdict(float)
        spots = max(1, SPOTS // len(spans))
        deadline = time.monotonic() + READ_SECONDS
        with suppress(UnavailableError), closing(self._consumer()) as consumer:
            for spot in range(spots):
                stretches = {at: _part(span, spot, spots) for at, span in spans.items()}
                sampled = self._sample(consumer, stretches, deadline)
                for at, sources in sampled.items():
                    for source in sources:  # each record represents its share of the stretch
                        weights[source] += len(stretches[at]) / len(sources)
            return weights
        return {}

    def _sample(
        self, consumer: Consumer, stretches: Mapping[PartitionKey, range], deadline: float
    ) -> dict[PartitionKey, list[str]]:
        """Return the sources of the first few records of each stretch."""
        sampled: dict[PartitionKey, list[str]] = defaultdict(list)

        def keep(place: PartitionKey, message: Message) -> bool:
            if message.offset() not in stretches[place]:
                return True
            sampled[place].append(source_of(message.value() or b""))
            return len(sampled[place]) >= RECORDS

        starts = {at: stretch.start for at, stretch in stretches.items() if stretch}
        self._read(consumer, starts, keep, deadline)
        return sampled

    def _consumer(self) -> Consumer:
        options = {"log_level": 0, "fetch.message.max.bytes": 65_536, "fetch.queue.backoff.ms": 10}
        return Consumer({**lone_options(self._settings, REST_MS), **options})

    def _read(
        self,
        consumer: Consumer,
        starts: Mapping[PartitionKey, int],
        keep: Callable[[PartitionKey, Message], bool],
        deadline: float,
    ) -> None:
        """Pass records from each offset on to `keep`, until it returns True or the partition ends."""
        left = set(starts)
        # finished partitions are not paused: a fetch after the next assignment would pause for a second
        consumer.assign([TopicPartition(*place, at) for place, at in starts.items()])
        while left:
            if time.monotonic() > deadline:
                raise UnavailableError("Kafka did not return the oldest unread records in time.")
            first = consumer.poll(0.1)
            for message in [] if first is None else [first, *consumer.consume(1_000, 0)]:
                place = (message.topic() or "", message.partition() or 0)
                error = message.error()
                if place not in left:
                    continue
                if is_record(message):
                    if not keep(place, message):
                        continue
                elif error is None or error.code() != KafkaError._PARTITION_EOF:
                    continue
                left.discard(place)


def _part(span: range, number: int, parts: int) -> range:
    """Return one of `parts` equal parts of the range."""
    return span[len(span) * number // parts : len(span) * (number + 1) // parts]
