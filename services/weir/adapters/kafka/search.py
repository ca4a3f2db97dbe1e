"""Search ranges of topics for a few records, within a time limit."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from weir.adapters.kafka.clients import UNCOMMITTED, is_record, lone_options
from weir.adapters.kafka.partition_reader import unavailable_on_error
from weir.core.topics import PartitionKey
from weir.settings.shared import KafkaSettings

REST_MS = 20
REQUEST_SECONDS = 5.0
FETCH_RECORDS = 5_000
QUEUE_KILOBYTES = 16_384  # maximum to read ahead
LATEST = 2**63 - 1

# Returns, by partition, the range of offsets that an open transaction holds back: see `KafkaAdmin.held`.
Held = Callable[[Iterable[PartitionKey]], Mapping[PartitionKey, tuple[int, int]]]
Matches = Callable[[Message], bool]


class KafkaSearch:
    """One search, first over committed records. Close it. `UnavailableError` if brokers do not answer.

    `scan_held` searches records that open transactions hold back. `bounds` has a sentence for each limit
    that cut the search short: records beyond the time limit, or too far back.
    """

    def __init__(
        self, settings: KafkaSettings, partitions: Mapping[str, int], held: Held, seconds: float
    ) -> None:
        """`partitions`: number of partitions by topic. `seconds`: time limit for all reading together."""
        self.bounds: list[str] = []
        self._partitions = partitions
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._held = held
        self._held_from: dict[PartitionKey, int] = {}
        self._options = {
            **lone_options(settings, REST_MS),
            "log_level": 0,
            "queued.max.messages.kbytes": QUEUE_KILOBYTES,
            "fetch.max.bytes": QUEUE_KILOBYTES * 1024,  # one response, in addition to the queue
            # after a full queue, continue to fetch at once: the default pause is one second
            "fetch.queue.backoff.ms": 10,
        }
        self._consumer = Consumer(self._options)

    def close(self) -> None:
        self._consumer.close()

    def places(self, topic: str) -> set[PartitionKey]:
        return {(topic, partition) for partition in range(self._partitions.get(topic, 0))}

    def before(
        self, places: Iterable[PartitionKey], ends: Mapping[PartitionKey, int], records: int
    ) -> dict[PartitionKey, int]:
        """Return, by partition, the offset `records` before `ends`, or before the partition's end."""
        starts = {}
        cut = False
        with unavailable_on_error():
            for place in places:
                low, high = self._consumer.get_watermark_offsets(
                    TopicPartition(*place), REQUEST_SECONDS
                )
                start = max(low, min(high, ends.get(place, high)) - records)
                cut = cut or start > low
                if start < high:
                    starts[place] = start
        if cut:
            self.bounds.append(f"Only the latest {records:,} records of a partition were read.")
        return starts

    def since(self, names: Collection[str], since_ms: int) -> dict[PartitionKey, int]:
        """Return, by partition, the offset of the first record at or after `since_ms` (epoch milliseconds).

        Partitions without such a record are omitted.
        """
        asked = [
            TopicPartition(*place, max(0, since_ms))
            for name in names
            for place in self.places(name)
        ]
        with unavailable_on_error():
            found = self._consumer.offsets_for_times(asked, REQUEST_SECONDS) if asked else []
        return {(at.topic, at.partition): at.offset for at in found if at.offset >= 0}

    def scan(
        self,
        starts: Mapping[PartitionKey, int],
        matches: Matches,
        until: int,
        ending: Collection[str],
    ) -> list[Message]:
        """Return matching records in order of time, from `starts` up to the first record later than `until`.

        The search ends with the first match in one of the topics `ending`.
        """
        found = self._scan(self._consumer, starts, matches, until, ending)
        return sorted(found, key=lambda message: message.timestamp()[1])

    def scan_held(
        self, names: Iterable[str], matches: Matches, ending: Collection[str]
    ) -> list[Message]:
        """Search, as `scan` does, the records that open transactions hold back in these topics. See `is_held`."""
        held = self._held(place for name in names for place in self.places(name))
        self._held_from |= {place: first for place, (first, _) in held.items()}
        if not held:
            return []
        starts = {place: first for place, (first, _) in held.items()}
        with (
            unavailable_on_error(),
            closing(Consumer({**self._options, **UNCOMMITTED})) as consumer,
        ):
            return self._scan(consumer, starts, matches, LATEST, ending)

    def is_held(self, message: Message) -> bool:
        """Check whether an open transaction holds this record back, so that consumers do not get it yet."""
        place = (message.topic() or "", message.partition() or 0)
        first = self._held_from.get(place)
        return first is not None and (message.offset() or 0) >= first

    def _scan(
        self,
        consumer: Consumer,
        starts: Mapping[PartitionKey, int],
        matches: Matches,
        until: int,
        ending: Collection[str],
    ) -> list[Message]:
        found: list[Message] = []
        left = set(starts)
        with unavailable_on_error():
            consumer.assign([TopicPartition(*place, at) for place, at in starts.items()])
            while left and not any(message.topic() in ending for message in found):
                if time.monotonic() > self._deadline:
                    names = ", ".join(sorted({name for name, _ in left}))
                    text = f"These topics were not read to the end within {self._seconds:g} s: {names}."
                    self.bounds.append(text)
                    break
                for message in _consume(consumer):
                    place = (message.topic(), message.partition())
                    if place in left and self._is_past(message, until):
                        left.discard(place)
                        consumer.pause([TopicPartition(*place)])
                    elif place in left and is_record(message) and matches(message):
                        found.append(message)
        return found

    def _is_past(self, message: Message, until: int) -> bool:
        """Check whether the message is an end-of-partition event or a record later than `until`."""
        error = message.error()
        if error is not None:
            return bool(error.code() == KafkaError._PARTITION_EOF)
        return bool(message.timestamp()[1] > until)


def _consume(consumer: Consumer) -> list[Message]:
    first = consumer.poll(0.1)
    return [] if first is None else [first, *consumer.consume(FETCH_RECORDS, 0)]
