"""One partition of a topic, read from one place to its present end."""

from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from services.edge.kafka import raise_if_fenced

CHUNK = 10_000


def read_partition(
    options: Mapping[str, Any], place: TopicPartition, seconds: float
) -> Iterator[tuple[int, bytes, bytes | None]]:
    """Committed records (offset, key, value) from `place` to the end as it is now.

    Reads with a consumer of its own, which belongs to no group. `KafkaException` if the broker does
    not say within `seconds` where the end is.
    """
    reader = Consumer(
        {
            **options,
            "group.id": "weir.restore",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        _, end = reader.get_watermark_offsets(place, timeout=seconds)
        if place.offset >= end:
            return  # most often nothing has been missed: no need to fetch to see that
        reader.assign([place])
        while True:
            for message in reader.consume(CHUNK, 0.1):
                error = message.error()
                if error is None:
                    if message.offset() >= end:
                        return  # others write to it all the while, and its end never comes
                    yield message.offset(), message.key() or b"", message.value()
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                elif not error.retriable():
                    raise_if_fenced(error)
    finally:
        reader.close()
