"""Fills a topic before a measurement begins."""

from collections.abc import Iterable

from confluent_kafka import Producer

from tests.bench.input import Accepted
from weir.adapters.kafka.clients import client_options
from weir.settings.shared import KafkaSettings

CHUNK = 20_000
FLUSH_SECONDS = 120.0


def preload(settings: KafkaSettings, topic: str, records: Iterable[Accepted]) -> int:
    """Every record is durable on return; gives how many."""
    producer = Producer(
        {
            **client_options(settings),
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 20,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 2 * CHUNK,
        }
    )
    count = 0
    for record in records:
        while True:
            try:
                producer.produce(topic, record.value, record.key, timestamp=record.timestamp)
                break
            except BufferError:
                producer.poll(0.05)
        count += 1
        if count % 1_000 == 0:
            producer.poll(0)
    if producer.flush(FLUSH_SECONDS):
        raise TimeoutError(f"the broker did not take all of {count:,} records for {topic}")
    return count
