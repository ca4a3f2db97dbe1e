"""Kafka administration (confluent-kafka): topics, their configuration, offsets and groups."""

import time
import uuid
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from weir.adapters.errors import RefusedError
from weir.adapters.kafka.access import connect
from weir.adapters.kafka.clients import client_options, is_unknown_topic
from weir.adapters.kafka.partition_reader import ELECTING, unavailable_on_error
from weir.adapters.kafka.retry import retry
from weir.settings.shared import KafkaSettings

T = TypeVar("T")

TIMEOUT_SECONDS = 15
COUNTED = 100  # records: above that, the distance between offsets is accurate enough
COUNT_SECONDS = 5
# Errors while a group's coordinator moves or starts.
MOVING = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}


# Errors for a client that still has the partition's leader epoch from before a restart, and keeps using it.
OUTDATED = {KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH}
ELECTING_SECONDS = 5
# Temporary errors: a broker starts, stops or is too busy.
PASSING = (
    MOVING
    | ELECTING
    | {
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._WAIT_COORD,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_CONTROLLER,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
    }
)


class KafkaRefusedError(RefusedError):
    """The broker answered and refused; the text has its reason."""

    def __init__(self, fault: KafkaError) -> None:
        super().__init__(f"Kafka refused: {fault.str()}")
        self.code = fault.code()
        self.passing = self.code in PASSING


@dataclass(frozen=True)
class Topic:
    """A topic as it exists on the brokers, or as it should be."""

    name: str
    partitions: int
    replicas: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lag:
    """What one group has yet to read from one partition. `position` -1: it has committed nothing."""

    group: str
    topic: str
    partition: int
    position: int
    end: int
    records: int
    client: str  # the member that reads the partition; empty: none
    held_from: int = -1  # first offset that an open transaction holds back from consumers; -1: none

    @property
    def held(self) -> int:
        """Number of unread offsets that an open transaction holds back."""
        if self.held_from < 0:
            return 0
        return max(0, self.end - max(self.position, self.held_from))


class KafkaAdmin:
    """One connection to a cluster. The constructor raises as `connect` does."""

    def __init__(self, settings: KafkaSettings, timeout: float = TIMEOUT_SECONDS) -> None:
        self._settings = settings
        self._timeout = timeout
        self._reader: Any = None
        self._askers: dict[str, Consumer] = {}  # by group, to read its committed offsets
        self._admin = connect(settings)

    def topics(self, with_config: bool = True) -> dict[str, Topic]:
        """Return every topic except Kafka's internal ones, by name."""
        with unavailable_on_error():
            listed = self._admin.list_topics(timeout=self._timeout).topics
        names = sorted(name for name in listed if not name.startswith("__"))
        configs = self.configs(names) if with_config else {}
        return {
            name: Topic(
                name,
                len(listed[name].partitions),
                min((len(p.replicas) for p in listed[name].partitions.values()), default=0),
                configs.get(name, {}),
            )
            for name in names
        }

    def create(self, topics: Iterable[Topic]) -> None:
        """Create the topics; brokers know them on return. A topic that exists already is left unchanged."""
        wanted = [NewTopic(t.name, t.partitions, t.replicas, config=dict(t.config)) for t in topics]
        if not wanted:
            return
        for future in self._admin.create_topics(
            wanted, operation_timeout=self._timeout, request_timeout=self._timeout
        ).values():
            self._result(future, accept={KafkaError.TOPIC_ALREADY_EXISTS})
        self._wait_until_known({topic.topic for topic in wanted})

    def _wait_until_known(self, names: set[str]) -> None:
        """Return once a broker knows these topics: the controller answers before the brokers have heard of them."""

        def ask() -> None:
            if missing := names - self._admin.list_topics(timeout=self._timeout).topics.keys():
                text = f"{', '.join(sorted(missing))} was created but is not known yet"
                raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, text))

        with unavailable_on_error():
            retry(ask, KafkaException, is_unknown_topic, self._timeout)

    def configure(self, name: str, config: Mapping[str, str]) -> None:
        """Set these entries of a topic's configuration and leave the others unchanged."""
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
            for key, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        for future in self._admin.incremental_alter_configs(
            [resource], request_timeout=self._timeout
        ).values():
            self._result(future)

    def record_counts(self, topics: Iterable[Topic]) -> dict[str, int]:
        """Return the number of offsets between each topic's beginning and end: records and transaction markers."""
        places = [TopicPartition(t.name, p) for t in topics for p in range(t.partitions)]
        first = self._offsets(places, OffsetSpec.earliest())
        last = self._offsets(places, OffsetSpec.latest())
        counts: dict[str, int] = {}
        for place, end in last.items():
            counts[place[0]] = counts.get(place[0], 0) + max(0, end - first.get(place, 0))
        return counts

    def lags(self, groups: Mapping[str, Iterable[str]]) -> list[Lag]:
        """Return what each group has yet to read from every partition of its topics, in the order of `groups`.

        Transactions leave markers and aborted records in a partition, which consumers never get, so a
        distance between two offsets may contain no record at all. For short distances the records are
        counted by reading; for long ones the distance is used. Positions are read before ends, so that a
        record that passes from one group to the next meanwhile is never missed.
        """
        partitions = {name: topic.partitions for name, topic in self.topics(False).items()}
        members = self._members(list(groups))
        positions: dict[tuple[str, str, int], int] = {}
        for name, read in groups.items():
            places = [(t, p) for t in read for p in range(partitions.get(t, 0))]
            committed = self.positions(name, places)
            for place in places:
                positions[(name, *place)] = committed.get(place, -1)
        wanted = [TopicPartition(*place) for place in {place[1:] for place in positions}]
        first = self._offsets(wanted, OffsetSpec.earliest())
        last = self._offsets(wanted, OffsetSpec.latest())
        held = self.held((at.topic, at.partition) for at in wanted)
        lags = []
        for (name, topic, partition), position in positions.items():
            end = last.get((topic, partition), 0)
            start = max(position, first.get((topic, partition), 0))
            client = members.get(name, {}).get((topic, partition), "")
            lags.append(
                Lag(
                    name,
                    topic,
                    partition,
                    position,
                    end,
                    self.waiting(topic, partition, start, end),
                    client,
                    held.get((topic, partition), (-1, 0))[0],
                )
            )
        return lags

    def held(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """Return, for partitions with an open transaction, the range of offsets that it holds back: (from, end).

        Consumers of committed records do not get them before the transaction ends. Its producer ends it, or
        the broker does after the producer's timeout.
        """
        asked = {TopicPartition(*place): OffsetSpec.latest() for place in places}
        # in this order, so that a transaction that ends in between does not count
        ends = self._asked(asked)
        stable = self._asked(asked, IsolationLevel.READ_COMMITTED)
        return {at: (stable[at], end) for at, end in ends.items() if stable.get(at, end) < end}

    def close(self) -> None:
        """Close the consumers that `lags` and `positions` have opened; later calls open new ones."""
        while self._askers:
            self._askers.popitem()[1].close()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def waiting(self, topic: str, partition: int, start: int, end: int) -> int:
        """Return the number of records from `start` to `end`: counted up to COUNTED, else the distance.

        Records that an open transaction holds back are included: their transaction may already count as
        committed elsewhere before its end is known here.
        """
        if start >= end:
            return 0
        if self._reader is None:
            self._reader = Consumer(
                {
                    **client_options(self._settings),
                    "group.id": f"weir.lag.{uuid.uuid4()}",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "isolation.level": "read_committed",
                    "fetch.wait.max.ms": 20,
                    "fetch.message.max.bytes": 65_536,
                    "log_level": 0,
                }
            )
        self._reader.assign([TopicPartition(topic, partition, start)])
        count = 0
        deadline = time.monotonic() + COUNT_SECONDS
        while count < COUNTED and time.monotonic() < deadline:
            for message in self._reader.consume(1, 0.1):  # a larger number would wait for more
                if message.error() is None:
                    count += message.offset() < end
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    return count + max(0, end - (message.offset() or 0))
        return end - start

    def _members(self, groups: list[str]) -> dict[str, dict[tuple[str, int], str]]:
        return _again(lambda: self._members_once(groups), MOVING, self._timeout)

    def _members_once(self, groups: list[str]) -> dict[str, dict[tuple[str, int], str]]:
        found: dict[str, dict[tuple[str, int], str]] = {}
        described = self._admin.describe_consumer_groups(groups, request_timeout=self._timeout)
        for name, future in described.items():
            group = self._result(future, accept={KafkaError.GROUP_ID_NOT_FOUND})
            if group is None:
                continue
            found[name] = {
                (place.topic, place.partition): member.group_instance_id or member.client_id
                for member in group.members
                if member.assignment is not None
                for place in member.assignment.topic_partitions
            }
        return found

    def positions(
        self, group: str, places: Iterable[tuple[str, int]]
    ) -> dict[tuple[str, int], int]:
        """Return the group's committed next offset of each of these partitions that has one."""
        found = self.committed(group, places)
        return {(at.topic, at.partition): at.offset for at in found if at.offset >= 0}

    def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        """Return the ids of existing topics by name; a topic that is deleted and created again has another id."""
        wanted = TopicCollection(sorted(names))
        asked = self._admin.describe_topics(wanted, request_timeout=self._timeout)
        found = {
            name: self._result(future, accept={KafkaError.UNKNOWN_TOPIC_OR_PART})
            for name, future in asked.items()
        }
        return {name: str(topic.topic_id) for name, topic in found.items() if topic is not None}

    def committed(self, group: str, places: Iterable[tuple[str, int]]) -> list[TopicPartition]:
        """Return the group's offset of each of these partitions, with its metadata; a negative offset: none.

        A consumer asks for them, without joining the group. The admin client's request crashes the process if
        the group's coordinator is not ready (confluentinc/librdkafka#5040).
        """
        asked = [TopicPartition(*place) for place in places]
        if not asked:
            return []
        if group not in self._askers:
            self._askers[group] = Consumer(
                {
                    **client_options(self._settings),
                    "group.id": group,
                    "enable.auto.commit": False,
                    "isolation.level": "read_uncommitted",  # otherwise it waits for open transactions
                    "log_level": 0,
                }
            )

        def ask() -> list[TopicPartition]:
            found: list[TopicPartition] = self._askers[group].committed(
                asked, timeout=self._timeout
            )
            return found

        try:
            found = retry(
                ask,
                KafkaException,
                lambda fault: fault.args[0].code() in MOVING,
                self._timeout,
            )
        except KafkaException as error:
            raise KafkaRefusedError(error.args[0]) from None
        for place in found:
            if place.error is not None:
                raise KafkaRefusedError(place.error)
        return found

    def offsets(self, specs: Mapping[tuple[str, int], OffsetSpec]) -> dict[tuple[str, int], int]:
        """Return the offset that each existing partition's spec asks for; -1: no record is that late."""
        return self._asked({TopicPartition(*place): spec for place, spec in specs.items()})

    def _offsets(self, places: list[TopicPartition], spec: Any) -> dict[tuple[str, int], int]:
        return self._asked(dict.fromkeys(places, spec))

    def _asked(
        self,
        specs: dict[TopicPartition, Any],
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[tuple[str, int], int]:
        if not specs:
            return {}
        return _again(lambda: self._asked_once(specs, isolation), ELECTING, ELECTING_SECONDS)

    def _asked_once(
        self, specs: dict[TopicPartition, Any], isolation: IsolationLevel
    ) -> dict[tuple[str, int], int]:
        asked = self._admin.list_offsets(
            specs, isolation_level=isolation, request_timeout=self._timeout
        )
        found = {}
        for place, future in asked.items():
            try:
                answer = self._result(future, accept={KafkaError.UNKNOWN_TOPIC_OR_PART})
            except KafkaRefusedError as fault:
                if fault.code in OUTDATED:
                    self._admin = connect(self._settings)
                raise
            if answer is not None:
                found[(place.topic, place.partition)] = answer.offset
        return found

    def configs(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the configuration of these topics, which must exist, by name."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        if not resources:
            return {}
        asked = self._admin.describe_configs(resources, request_timeout=self._timeout)
        return {
            resource.name: {key: entry.value for key, entry in self._result(future).items()}
            for resource, future in asked.items()
        }

    def _result(self, future: Any, accept: Iterable[int] = ()) -> Any:
        try:
            return future.result(self._timeout + 5)
        except KafkaException as error:
            fault = error.args[0]
            if fault.code() in accept:
                return None
            raise KafkaRefusedError(fault) from None


def _again(ask: Callable[[], T], passing: Container[int], seconds: float) -> T:
    """Return the result of `ask`; repeat it for at most `seconds` while the broker's error is one of `passing`."""
    return retry(ask, KafkaRefusedError, lambda fault: fault.code in passing, seconds)
