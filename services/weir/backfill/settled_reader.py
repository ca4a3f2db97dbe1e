"""Re-read a topic in order up to the group's committed position."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from weir.adapters.errors import RefusedError, UnavailableError
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.clients import client_options, lone_options, partitions_of
from weir.adapters.kafka.partition_reader import PartitionReader, unavailable_on_error
from weir.adapters.kafka.positions import settled_positions
from weir.runtime.sink_ports import Columns, PartitionId
from weir.settings.shared import KafkaSettings

CHUNK_OFFSETS = 2_000
REST_MS = 100
SECONDS = 10.0
PATIENCE_SECONDS = 60.0  # limit without any message from the brokers


class OffsetRange(NamedTuple):
    """The offsets of one partition from `start` to before `end`."""

    place: PartitionId
    topic_id: str
    start: int
    end: int

    def __len__(self) -> int:
        return max(0, self.end - self.start)


class Chunk(NamedTuple):
    """The committed records of a range of offsets. The ranges are the same in every run."""

    start: int
    end: int
    records: Columns


class SettledReader:
    """A reader outside of any consumer group; close it. `UnavailableError` if the brokers do not answer."""

    def __init__(self, settings: KafkaSettings, group: str) -> None:
        self._settings = settings
        self._group = group
        self._consumer = Consumer(
            {
                **lone_options(settings, REST_MS),
                "log_level": 0,
                "queued.max.messages.kbytes": 16_384,
                "fetch.queue.backoff.ms": 10,
            }
        )

    def close(self) -> None:
        self._consumer.close()

    def spans(
        self, topic: str, since: int | None, ends: Mapping[tuple[str, int], int] | None = None
    ) -> list[OffsetRange]:
        """Return the settled offsets of a topic from the time `since` on (epoch milliseconds; None: all).

        Settled are the offsets that the group has passed, or, if another group reads the topic, those before
        `ends`. `RefusedError` if the topic does not exist.
        """
        with unavailable_on_error():
            admin = KafkaAdmin(self._settings)
            try:
                found = admin.topics(with_config=False).get(topic)
                if found is None:
                    raise RefusedError(
                        f"The topic {topic} does not exist: run `weir topics apply`."
                    )
                places = [(topic, partition) for partition in range(found.partitions)]
                ids = admin.topic_ids([topic])
                settled = ends
                if settled is None:
                    settled = settled_positions(admin, self._group, places, ids)
            finally:
                admin.close()
            starts = self._starts(places, since)
            return [
                OffsetRange(PartitionId(*place), ids[topic], starts[place], settled[place])
                for place in places
                if place in starts and starts[place] < settled.get(place, 0)
            ]

    def chunks(self, span: OffsetRange) -> Iterator[Chunk]:
        """Yield the records of the range, `CHUNK_OFFSETS` offsets at a time; chunks without records are left out."""
        self._consumer.assign([TopicPartition(*span.place, span.start)])
        start, records = _floor(span.start), Columns([], [], [], [])
        for offset, value, key, timestamp in self._read(span.end):
            if offset >= start + CHUNK_OFFSETS:
                if records.offsets:
                    yield Chunk(start, start + CHUNK_OFFSETS, records)
                start, records = _floor(offset), Columns([], [], [], [])
            records.offsets.append(offset)
            records.values.append(value)
            records.keys.append(key)
            records.timestamps.append(timestamp)
        if records.offsets:
            yield Chunk(start, start + CHUNK_OFFSETS, records)

    def table(self, topic: str) -> Iterator[tuple[int, bytes, bytes | None]]:
        """Yield (partition, key, value) of every record of a compacted topic, up to its present end."""
        with unavailable_on_error():
            numbers = sorted(partitions_of(self._consumer, topic, SECONDS))
            reader = PartitionReader({**client_options(self._settings), "log_level": 0}, SECONDS)
            for message in reader.read_to_end([TopicPartition(topic, n, 0) for n in numbers]):
                yield message.partition() or 0, message.key() or b"", message.value()

    def _starts(
        self, places: Iterable[tuple[str, int]], since: int | None
    ) -> dict[tuple[str, int], int]:
        """Return the first offset by partition. Partitions without a record since then are left out."""
        if since is None:
            lows = (
                self._consumer.get_watermark_offsets(TopicPartition(*p), SECONDS) for p in places
            )
            return {place: low for place, (low, _) in zip(places, lows, strict=True)}
        asked = [TopicPartition(*place, max(0, since)) for place in places]
        found = self._consumer.offsets_for_times(asked, SECONDS)
        return {(at.topic, at.partition): at.offset for at in found if at.offset >= 0}

    def _read(self, end: int) -> Iterator[tuple[int, bytes | None, bytes, int]]:
        silent = 0.0
        while True:
            messages = self._consumer.consume(CHUNK_OFFSETS, REST_MS / 1000)
            silent = 0.0 if messages else silent + REST_MS / 1000
            if silent > PATIENCE_SECONDS:
                raise UnavailableError(f"Kafka has sent nothing for {PATIENCE_SECONDS:g} s.")
            for message in messages:
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        return
                    if not error.retriable():
                        raise UnavailableError(f"Kafka does not answer: {error.str()}.")
                    continue
                if message.offset() >= end:
                    return
                _, timestamp = message.timestamp()
                yield message.offset(), message.value(), message.key() or b"", timestamp


def _floor(offset: int) -> int:
    return offset - offset % CHUNK_OFFSETS
