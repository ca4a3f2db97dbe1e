"""Kafka's producer through confluent-kafka: idempotent, all in-sync replicas, bounded, told of every record."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, Producer

from services.edge.kafka import client_options
from services.runtime.config import KafkaSettings

Acknowledge = Callable[[KafkaError | None, object], None]
Write = Callable[[str, bytes, bytes, int, Acknowledge, None, int], None]


@dataclass(frozen=True)
class ProducerOptions:
    """How long records are gathered, how long they may wait, and how much may wait."""

    linger_ms: float
    ack_seconds: float
    queue_kilobytes: int
    on_fatal: Callable[[str], None]


QUEUE_FULL = BufferError  # what `write` raises when as much waits for the brokers as may


class DurableProducer:
    """A record is on all in-sync replicas when its acknowledgement comes without an error.

    Acknowledgements come from within `poll`. An error means: not known to be durable.
    """

    def __init__(self, settings: KafkaSettings, options: ProducerOptions) -> None:
        self._on_fatal = options.on_fatal
        self._options: dict[str, Any] = {
            "linger.ms": options.linger_ms,
            "message.timeout.ms": int(options.ack_seconds * 1000),
            "queue.buffering.max.kbytes": options.queue_kilobytes,
            "queue.buffering.max.messages": 1_000_000,
            **client_options(settings),
            "acks": "all",
            "enable.idempotence": True,
            "error_cb": self._fault,
        }
        self._producer = Producer(self._options)
        # (topic, value, key, partition -1, acknowledge, None, timestamp); raises QUEUE_FULL
        self.write: Write = self._producer.produce
        self.poll: Callable[[float], int] = self._producer.poll

    def flush(self, seconds: float) -> int:
        """Wait for the acknowledgements of all that was written; how many have not come."""
        return int(self._producer.flush(seconds))

    def __len__(self) -> int:
        return len(self._producer)

    def _fault(self, error: KafkaError) -> None:
        if error.fatal():
            self._on_fatal(str(error))
