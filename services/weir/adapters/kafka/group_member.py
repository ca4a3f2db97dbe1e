"""One member of a consumer group, whose partitions start at the positions that Weir keeps for the group."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from enum import Enum
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from weir.adapters.kafka.positions import FoundPosition, GroupPositions
from weir.adapters.kafka.read_positions import ReadPositions
from weir.core.topics import PartitionKey

Find = Callable[[Consumer, list[TopicPartition]], list[FoundPosition]]


class Membership(Enum):
    """Whether the group has assigned partitions (perhaps none) to a member."""

    JOINING = "joining"
    ASSIGNED = "assigned"
    REVOKED = "revoked"


class GroupMember:
    """A consumer, and what rebalances have given to it and taken from it. Use it from one thread only.

    A gained partition is paused at its kept position until `resume`. Every rebalance revokes all partitions of
    all members and assigns all of them again: see `group_options`.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        names: Sequence[str],
        positions: GroupPositions,
        failed: Callable[[KafkaException], None],
        find: Find | None = None,
    ) -> None:
        """Join the group and subscribe to the topics `names`.

        `options`: of the consumer, with `group_options`. `failed` is called if partitions are assigned but
        their positions cannot be read; unless it raises, the member then reads nothing. `find` replaces
        `positions.find`.
        """
        self.membership = Membership.JOINING
        self.reading = ReadPositions()
        self._positions = positions
        self._find = find or positions.find
        self._failed = failed
        self._closing = False
        self._assigned: set[PartitionKey] = set()
        self._gained: dict[PartitionKey, FoundPosition] = {}
        self._lost: set[PartitionKey] = set()
        self._paused: Set[PartitionKey] = frozenset()
        self._rebalanced = False
        self.consumer = Consumer(
            {
                **options,
                "enable.partition.eof": True,
                # `_on_assign` always sets the offset to read from
                "auto.offset.reset": "error",
            }
        )
        self.consumer.subscribe(
            list(names),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    @property
    def assigned(self) -> Set[PartitionKey]:
        return self._assigned

    @property
    def owned(self) -> Set[PartitionKey]:
        """Assigned partitions whose gain has been taken: records of others were read before they were lost."""
        return self._assigned - self._gained.keys()

    def take_gained(self) -> dict[PartitionKey, FoundPosition]:
        """Return the partitions gained since the last call that were not lost again."""
        gained, self._gained = self._gained, {}
        return gained

    def take_lost(self) -> set[PartitionKey]:
        """Return the partitions lost since the last call; some of them may have been gained again."""
        lost, self._lost = self._lost, set()
        return lost

    def take_rebalanced(self) -> bool:
        """Return whether partitions were assigned since the last call."""
        rebalanced, self._rebalanced = self._rebalanced, False
        return rebalanced

    def resume(self, places: Iterable[PartitionKey]) -> None:
        """Read these assigned partitions. `KafkaException`."""
        self.consumer.resume([TopicPartition(*place) for place in places])

    def pause_only(self, places: Set[PartitionKey]) -> None:
        """Pause exactly these partitions, and resume those that this method has paused before."""
        if places == self._paused:
            return
        self.resume((self._paused - places) & self._assigned)
        self.consumer.pause([TopicPartition(*place) for place in places - self._paused])
        self._paused = places

    def waiting(self) -> Mapping[PartitionKey, int]:
        """Return the number of records that wait in each assigned partition."""
        return self.reading.waiting(self.consumer)

    def close(self) -> None:
        """Leave the group; all partitions are lost."""
        self._closing = True
        self.consumer.close()
        self._forget()

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        # a closing consumer may still be assigned partitions, and fetches no offsets
        if self._closing:
            consumer.unassign()
            return
        try:
            found = self._find(consumer, places)
            # At absolute offsets: if the consumer looked one up itself, a late response could set the
            # partition back to an offset that has been read already.
            starts = [at.start() for at in found]
            consumer.assign(starts)
            consumer.pause(starts)  # so that earlier records are not mistaken for later ones
            self._positions.commit_missing(consumer, found)
        except KafkaException as fault:
            self._failed(fault)
            consumer.assign([])
            return
        self.reading.begin(found)
        self._gained = {(at.topic, at.partition): at for at in found}
        self._assigned = set(self._gained)
        self.membership = Membership.ASSIGNED
        self._rebalanced = True

    def _on_revoke(self, consumer: Consumer, _places: list[TopicPartition]) -> None:
        consumer.unassign()
        if self.membership is Membership.ASSIGNED:
            self.membership = Membership.REVOKED
        self._forget()

    def _forget(self) -> None:
        self._lost |= self._assigned
        self._gained, self._assigned, self._paused = {}, set(), frozenset()
        self.reading.begin([])
