"""How far a group's member has read each partition that it owns, and how much waits there."""

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, TopicPartition

from weir.adapters.kafka.positions import FoundPosition

Place = tuple[str, int]


class ReadPositions:
    """Of one assignment: `begin` anew with each.

    What waits reaches up to the partition's end and not to where reading is allowed: records behind
    an open transaction wait, too.
    """

    def __init__(self) -> None:
        self._next: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}

    def begin(self, found: Iterable[FoundPosition]) -> None:
        """These partitions are owned from now on, and no other."""
        found = list(found)
        self._next = {(at.topic, at.partition): at.first for at in found}
        self._ends = {(at.topic, at.partition): at.end for at in found}

    def advance(self, place: Place, position: int) -> None:
        """Everything before the position has been read: records, and what stands between them."""
        if place in self._next:
            self._next[place] = max(self._next[place], position)

    def waiting(self, consumer: Consumer) -> Mapping[Place, int]:
        """Records from each owned partition's position to its end, as last heard."""
        found = {}
        for place, position in self._next.items():
            # unknown until something is fetched, and not fetched anew while the partition is paused
            _, end = consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            end = self._ends[place] = max(end, self._ends[place])
            found[place] = max(0, end - position)
        return found
