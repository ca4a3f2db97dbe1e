"""Durable Kafka producer (confluent-kafka): idempotent, acks from all in-sync replicas, bounded queue."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from weir.adapters.kafka.clients import client_options
from weir.adapters.kafka.record_limits import PERMANENT
from weir.core.record_limits import BATCH_BYTES
from weir.settings.shared import KafkaSettings

Acknowledge = Callable[[KafkaError | None, object], None]
# Arguments: topic, value, key, partition (-1: by the key), acknowledge, None, timestamp.
ProduceCall = Callable[[str, bytes, bytes, int, Acknowledge, None, int], None]


@dataclass(frozen=True)
class ProducerOptions:
    """How long records are gathered, how long they may wait, how much may wait, and what to call on a fatal error."""

    linger_ms: float
    ack_seconds: float
    queue_kilobytes: int
    on_fatal: Callable[[str], None]


QUEUE_FULL = BufferError  # `write` raises it when the queue of waiting records is full
NOT_TAKEN = KafkaException  # `write` raises it for a record that the client itself refuses


class DurableProducer:
    """A producer whose acknowledgement without an error means: the record is on all in-sync replicas.

    Acknowledgements are called from within `poll`. An error means that it is unknown whether the record is durable.
    """

    def __init__(self, settings: KafkaSettings, options: ProducerOptions) -> None:
        self._on_fatal = options.on_fatal
        self._options: dict[str, Any] = {
            "linger.ms": options.linger_ms,
            "message.timeout.ms": int(options.ack_seconds * 1000),
            "queue.buffering.max.kbytes": options.queue_kilobytes,
            "queue.buffering.max.messages": 1_000_000,
            "batch.size": BATCH_BYTES,
            **client_options(settings),
            "acks": "all",
            "enable.idempotence": True,
            "error_cb": self._fault,
        }
        self._retired: list[Producer] = []
        self.write: ProduceCall  # raises QUEUE_FULL, NOT_TAKEN
        self.poll: Callable[[float], int]
        self._use(Producer(self._options))

    def limit_batches(self, size: int) -> None:
        """From now on gather at most `size` bytes for one request; waiting records are still acknowledged."""
        if size == self._options["batch.size"]:
            return
        self._options["batch.size"] = size
        self._retired.append(self._producer)
        self._use(Producer(self._options))
        self.poll = self._poll_retired_too

    def _use(self, producer: Producer) -> None:
        self._producer = producer
        self.write = producer.produce  # bound directly, without a wrapper: it runs for every event
        self.poll = producer.poll

    def _poll_retired_too(self, seconds: float, /) -> int:
        served = sum(int(producer.poll(0)) for producer in self._retired)
        self._retired = [producer for producer in self._retired if len(producer)]
        if not self._retired:
            self.poll = self._producer.poll
        return served + int(self._producer.poll(seconds))

    def flush(self, seconds: float) -> int:
        """Wait for the acknowledgements of all written records; return how many are missing."""
        left = sum(int(producer.flush(seconds)) for producer in self._retired)
        return left + int(self._producer.flush(seconds))

    def __len__(self) -> int:
        return len(self._producer) + sum(map(len, self._retired))

    def _fault(self, error: KafkaError) -> None:
        if error.fatal():
            self._on_fatal(str(error))


def is_permanent(error: object) -> bool:
    """Check whether the same record would be refused again."""
    return isinstance(error, KafkaError) and error.code() in PERMANENT
