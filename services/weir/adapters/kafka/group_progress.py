"""Check whether groups have passed the ends that their topics had at some moment."""

from collections.abc import Iterable, Mapping

from confluent_kafka.admin import OffsetSpec

from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.positions import settled_positions
from weir.core.topics import PartitionKey


class GroupProgress:
    """The progress of groups of a cluster. `UnavailableError`, `RefusedError`."""

    def __init__(self, admin: KafkaAdmin) -> None:
        self._admin = admin
        self._ids: dict[str, str] = {}
        partitions = admin.topics(with_config=False)
        self._places = {
            name: [(name, p) for p in range(topic.partitions)] for name, topic in partitions.items()
        }

    def ends(self, names: Iterable[str]) -> dict[PartitionKey, int]:
        """Return the present end of each partition of the topics."""
        places = [place for topic in names for place in self._places.get(topic, [])]
        self._ids |= self._admin.topic_ids({topic for topic, _ in places})
        return self._admin.offsets(dict.fromkeys(places, OffsetSpec.latest()))

    def unread(self, group: str, ends: Mapping[PartitionKey, int]) -> int:
        """Return the number of records before `ends` (from `ends()`) that a group has not passed."""
        positions = settled_positions(self._admin, group, ends, self._ids)
        first = self._admin.offsets(dict.fromkeys(ends, OffsetSpec.earliest()))
        return sum(
            self._admin.waiting(*place, max(positions.get(place, -1), first.get(place, 0)), end)
            for place, end in ends.items()
        )
