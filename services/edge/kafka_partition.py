"""Partitions read from one place to their present end, apart from any group."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from services.edge.kafka import raise_if_fenced

CHUNK = 10_000


def read_to_end(
    options: Mapping[str, Any], places: Sequence[TopicPartition], seconds: float
) -> Iterator[Message]:
    """Committed records of partitions of one topic, from these places to their ends as they are now.

    Reads with a consumer of its own. `KafkaException` if the broker does not say within `seconds`
    where an end is.
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
        ends = {}
        for place in places:
            _, end = reader.get_watermark_offsets(place, timeout=seconds)
            if (
                place.offset < end
            ):  # most often nothing has been missed: no need to fetch to see that
                ends[place.partition] = end
        reader.assign([place for place in places if place.partition in ends])
        while ends:
            for message in reader.consume(CHUNK, 0.1):
                error, partition = message.error(), message.partition()
                if error is None:
                    if message.offset() < ends.get(partition, 0):
                        yield message
                    else:  # where others write all the while, the end itself never comes
                        ends.pop(partition, None)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ends.pop(partition, None)
                elif not error.retriable():
                    raise_if_fenced(error)
    finally:
        reader.close()
