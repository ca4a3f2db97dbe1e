"""Read positions of a group member in the partitions that it owns, and the records that wait there."""

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, TopicPartition

from weir.adapters.kafka.positions import FoundPosition
from weir.core.topics import PartitionKey


class ReadPositions:
    """The read positions of one assignment; call `begin` for each new assignment.

    Waiting records are counted up to the partition's end, not only up to the last readable offset: records
    behind an open transaction wait, too.
    """

    def __init__(self) -> None:
        self._next: dict[PartitionKey, int] = {}
        self._ends: dict[PartitionKey, int] = {}

    def begin(self, found: Iterable[FoundPosition]) -> None:
        """Replace the owned partitions by these."""
        found = list(found)
        self._next = {(at.topic, at.partition): at.first for at in found}
        self._ends = {(at.topic, at.partition): at.end for at in found}

    def advance(self, place: PartitionKey, position: int) -> None:
        """Note that everything before the position has been read: records and transaction markers."""
        if place in self._next:
            self._next[place] = max(self._next[place], position)

    def waiting(self, consumer: Consumer) -> Mapping[PartitionKey, int]:
        """Return the number of records between each owned partition's position and its last known end."""
        found = {}
        for place, position in self._next.items():
            # the cached end is unknown until the first fetch, and not updated while the partition is paused
            _, end = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            end = self._ends[place] = max(end, self._ends[place])
            found[place] = max(0, end - position)
        return found
