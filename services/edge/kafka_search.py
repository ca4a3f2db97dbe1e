"""Reads stretches of topics for the few records that are sought, as long as it may take."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from services.edge.faults import NotReachedError
from services.edge.kafka import is_record, lone_options
from services.runtime.config import KafkaSettings

REST_MS = 20
REQUEST_SECONDS = 5.0
FETCH_RECORDS = 5_000
QUEUE_KILOBYTES = 16_384  # read ahead at most

Place = tuple[str, int]
Matches = Callable[[Message], bool]


class KafkaSearch:
    """One search over committed records; close it. `NotReachedError` when brokers do not answer.

    What there was no time for, or was too far back, is in `bounds`, a sentence each.
    """

    def __init__(
        self, settings: KafkaSettings, partitions: Mapping[str, int], seconds: float
    ) -> None:
        """`partitions`: how many each topic has. `seconds`: how long reading may take, all of it."""
        self.bounds: list[str] = []
        self._partitions = partitions
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._consumer = Consumer(
            {
                **lone_options(settings, REST_MS),
                "log_level": 0,
                "queued.max.messages.kbytes": QUEUE_KILOBYTES,
                "fetch.max.bytes": QUEUE_KILOBYTES * 1024,  # one answer, on top of what is queued
                # after a full queue go on fetching at once: the default rests for a second
                "fetch.queue.backoff.ms": 10,
            }
        )

    def close(self) -> None:
        self._consumer.close()

    def places(self, topic: str) -> set[Place]:
        return {(topic, partition) for partition in range(self._partitions.get(topic, 0))}

    def before(
        self, places: Iterable[Place], ends: Mapping[Place, int], records: int
    ) -> dict[Place, int]:
        """Offsets so many records before `ends`, or before the end of what is there."""
        starts = {}
        cut = False
        with clear_errors():
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

    def since(self, names: Collection[str], moment: int) -> dict[Place, int]:
        """Offsets of the first records from a time on; partitions without any are left out."""
        asked = [
            TopicPartition(*place, max(0, moment)) for name in names for place in self.places(name)
        ]
        with clear_errors():
            found = self._consumer.offsets_for_times(asked, REQUEST_SECONDS) if asked else []
        return {(at.topic, at.partition): at.offset for at in found if at.offset >= 0}

    def scan(
        self, starts: Mapping[Place, int], matches: Matches, until: int, ending: Collection[str]
    ) -> list[Message]:
        """Records that match, by time, from `starts` to those later than `until`.

        The first in one of the topics `ending` ends it.
        """
        found: list[Message] = []
        left = set(starts)
        with clear_errors():
            self._consumer.assign([TopicPartition(*place, at) for place, at in starts.items()])
            while left and not any(message.topic() in ending for message in found):
                if time.monotonic() > self._deadline:
                    names = ", ".join(sorted({name for name, _ in left}))
                    text = f"Not read to the end within {self._seconds:g} s: {names}."
                    self.bounds.append(text)
                    break
                for message in self._consume():
                    place = (message.topic(), message.partition())
                    if place in left and self._is_past(message, until):
                        left.discard(place)
                        self._consumer.pause([TopicPartition(*place)])
                    elif place in left and is_record(message) and matches(message):
                        found.append(message)
        return sorted(found, key=lambda message: message.timestamp()[1])

    def _is_past(self, message: Message, until: int) -> bool:
        """Whether it is the notice of a partition's end, or a record that is too late."""
        error = message.error()
        if error is not None:
            return bool(error.code() == KafkaError._PARTITION_EOF)
        return bool(message.timestamp()[1] > until)

    def _consume(self) -> list[Message]:
        first = self._consumer.poll(0.1)
        return [] if first is None else [first, *self._consumer.consume(FETCH_RECORDS, 0)]


@contextmanager
def clear_errors() -> Iterator[None]:
    """A client's own error becomes one of the house."""
    try:
        yield
    except KafkaException as fault:
        raise NotReachedError(f"Kafka does not answer: {fault.args[0]}.") from None
