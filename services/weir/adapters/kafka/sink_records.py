"""The sink's records on Kafka: one group member that reads many topics, and the writer of dead letters."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from weir.adapters.dead_letters import sink_letter
from weir.adapters.kafka.clients import client_options, group_options, is_fatal, is_replaced
from weir.adapters.kafka.partition_reader import PartitionReader
from weir.adapters.kafka.positions import GroupPositions
from weir.adapters.kafka.read_positions import ReadPositions
from weir.adapters.kafka.transactions import Transactions
from weir.core import topics
from weir.core.dead_letter_content import is_cut
from weir.core.record_limits import LimitsInForce, WeirsOwnLimits
from weir.core.stages import SINK, service_of
from weir.runtime import logs
from weir.runtime.health import PARTITIONS_TAKEN
from weir.runtime.ports import StreamBrokenError
from weir.runtime.recovery_limit import RecoveryLimit
from weir.runtime.sink_ports import (
    Columns,
    Commit,
    CommitFailedError,
    DeadLettersFailedError,
    DeadRecord,
    Gain,
    PartitionId,
    Polled,
    Slice,
)
from weir.settings.shared import KafkaSettings

FETCH_RECORDS = 5_000
# A pause discards prefetched records, so a short hold is done without one.
PAUSE_AFTER_SECONDS = 5.0
HELD_SECONDS = 0.05
REQUEST_SECONDS = 10.0
SLOT_SECONDS = 5
FAILING_SECONDS = 60.0  # how long commits may fail before all clients are replaced
LOOK_SECONDS = 5.0  # interval of the topic id check while nothing is committed


@dataclass(frozen=True)
class RecordsOptions:
    topics: tuple[str, ...]
    instance: int
    group: str = SINK.group
    fetch_kilobytes: int = 16_384
    session_seconds: int = 10


class KafkaRecords:
    """`weir.runtime.sink_ports.Records` on Kafka. Use it from one thread only."""

    def __init__(self, settings: KafkaSettings, options: RecordsOptions) -> None:
        self._options = options
        self._base = client_options(settings)
        self._log = logs.get(SINK.name)
        self._name = f"{options.group.replace('.', '-')}-{options.instance}"
        self._recoveries = RecoveryLimit()
        self._failing_since: float | None = None  # since when commits fail
        self._broken: KafkaError | None = None
        self._logged_fault = ""  # the fault that was logged, until reading continues
        self.trouble = "its partitions are not assigned yet"
        self._assigned: set[PartitionId] = set()
        self._gained: dict[PartitionId, Gain] = {}
        self._lost: set[PartitionId] = set()
        self._held: frozenset[PartitionId] = frozenset()  # partitions that must not be read now
        self._paused: Set[PartitionId] = frozenset()
        self._all_held_since: float | None = None
        self._looked_at = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        """Create everything that connects to a broker, at the start and in `_begin_anew`."""
        reader = PartitionReader(self._base, REQUEST_SECONDS)
        service = service_of(self._options.group)
        self._positions = GroupPositions(reader, service, REQUEST_SECONDS)
        self._reading = ReadPositions()
        self._keeper = Producer({**self._base, "acks": "all", "enable.idempotence": True})
        self._slot = self._take_slot()  # before the consumer joins the group: see `is_replaced`
        self._consumer = self._new_consumer()

    def poll(self, seconds: float, gather: bool) -> Polled:
        if self._waits():
            time.sleep(min(seconds, HELD_SECONDS))  # not a poll, which would read records
            return Polled(set(), [], [])
        self._pause(self._held & (self._assigned - self._gained.keys()))
        if gather:
            messages = self._consumer.consume(FETCH_RECORDS, seconds)
        else:
            # `consume` waits until its timeout to fill a batch; `poll` returns at the first record
            first = self._consumer.poll(seconds)
            messages = [] if first is None else [first, *self._consumer.consume(FETCH_RECORDS, 0)]
        slices = self._sliced(messages)
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._look()
        if self._broken is not None:
            self._begin_anew(self._broken)
            slices = []
        elif slices and self._logged_fault:
            self._log.info("reading continues", after=self._logged_fault)
            self._logged_fault = ""
        lost, self._lost = self._lost, set()
        return Polled(lost, self._resume_gained(), slices)

    def commit(self, commits: Sequence[Commit]) -> None:
        try:
            self._commit(commits)
        except CommitFailedError as fault:
            self._note_failure(str(fault))
            raise
        self._failing_since = None
        self._recoveries.committed()

    def _note_failure(self, fault: str) -> None:
        """Mark the clients as broken if commits fail for FAILING_SECONDS: retries with the same ones do not help."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > FAILING_SECONDS and self._broken is None:
            self._broken = KafkaError(KafkaError._TIMED_OUT, f"commits fail: {fault}")

    def _commit(self, commits: Sequence[Commit]) -> None:
        if standing := self._look():
            raise CommitFailedError(standing)
        places = [
            self._positions.place(place.topic, place.partition, offset, metadata)
            for place, offset, metadata in commits
        ]
        try:
            answers = self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as fault:
            self._note(fault.args[0])
            raise CommitFailedError(str(fault)) from fault
        for answer in answers or []:
            if answer.error is not None:
                self._note(answer.error)
                raise CommitFailedError(f"{answer.topic}-{answer.partition}: {answer.error}")
        self._keep(commits)  # only now: the commit of a replaced member has failed above

    def hold(self, places: Collection[PartitionId]) -> None:
        self._held = frozenset(places)
        if not self._held or self._assigned - self._held:
            self._all_held_since = None
        elif self._all_held_since is None:
            self._all_held_since = time.monotonic()

    def lag(self) -> Mapping[PartitionId, int]:
        waiting = self._reading.waiting(self._consumer)
        return {PartitionId(*place): records for place, records in waiting.items()}

    def close(self) -> None:
        self._closing = True
        self._consumer.close()

    def _look(self) -> str:
        """Return what prevents a commit; empty: nothing. See `GroupPositions.remade`."""
        self._looked_at = time.monotonic()
        try:
            remade = self._positions.remade()
        except KafkaException as fault:
            return str(fault)
        if remade:
            text = f"{', '.join(remade)} deleted and created again"
            self._broken = KafkaError(KafkaError.UNKNOWN_TOPIC_ID, text)
        return "" if self._broken is None else self._broken.str()

    def _keep(self, commits: Sequence[Commit]) -> None:
        faults: list[KafkaError] = []

        def kept(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                faults.append(error)

        try:
            for place, offset, metadata in commits:
                key, value = self._positions.output(place.topic, offset, metadata)
                self._keeper.produce(
                    topics.POSITIONS, value, key, place.partition, on_delivery=kept
                )
        except (BufferError, KafkaException) as fault:
            raise CommitFailedError(str(fault)) from fault
        if self._keeper.flush(REQUEST_SECONDS) or faults:
            why = faults[0].str() if faults else "no answer"
            raise CommitFailedError(
                f"{topics.POSITIONS} (if it is missing: `weir topics apply`): {why}"
            )

    def _note(self, error: KafkaError) -> None:
        """Handle an error that the consumer returns instead of a record."""
        if is_replaced(error):
            self._require_slot()
        if is_replaced(error) or is_fatal(error) or error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._broken = error

    def _require_slot(self) -> None:
        """Raise `FencedError` if another process has the slot."""
        if self._slot is not None:
            with suppress(KafkaException):
                self._slot.require_name()

    def _take_slot(self) -> Transactions | None:
        """Take the slot's transactional id. No data is written with it: it only serves to detect a successor.

        Return None if no broker answers. `FencedError` if another process takes the slot at this moment.
        """
        try:
            return Transactions(self._base, self._name, SLOT_SECONDS, ())
        except StreamBrokenError as fault:
            self._log.warning("a successor in this slot cannot be detected", fault=str(fault))
            return None

    def _begin_anew(self, fault: KafkaError) -> None:
        """Replace all clients by new ones; records are read again from the committed offsets.

        `RecoveryFailedError` after too many recoveries without a commit between them.
        """
        self._recoveries.begin(fault.str())
        if self._logged_fault != fault.str():
            self._log.warning("reading again from the committed offsets", fault=str(fault))
            self._logged_fault = fault.str()
        self._broken, self._failing_since, self.trouble = None, None, fault.str()
        self.close()
        self._lost |= self._assigned
        self._gained, self._assigned, self._paused = {}, set(), frozenset()
        time.sleep(HELD_SECONDS)
        self._begin()

    def _waits(self) -> bool:
        """Check whether everything is held, but not yet for so long that the group needs a poll."""
        since = self._all_held_since
        return since is not None and time.monotonic() - since < PAUSE_AFTER_SECONDS

    def _pause(self, places: Set[PartitionId]) -> None:
        """Pause exactly these partitions, and resume all others."""
        if places == self._paused:
            return
        self._consumer.resume(self._places((self._paused - places) & self._assigned))
        self._consumer.pause(self._places(places - self._paused))
        self._paused = places

    def _sliced(self, messages: Iterable[Message]) -> list[Slice]:
        columns: dict[tuple[str, int], Columns] = {}
        ends: dict[tuple[str, int], int] = {}
        place: tuple[str, int] | None = None
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    # the next offset to read, after any transaction markers
                    ends[(message.topic(), message.partition())] = message.offset()
                else:
                    self._note(error)
                continue
            at = (message.topic(), message.partition())
            if at != place:
                place = at
                found = columns.get(at)
                if found is None:
                    found = columns[at] = Columns([], [], [], [])
                # looked up once for the run of messages from the same partition
                add_offset, add_value = found.offsets.append, found.values.append
                add_key, add_timestamp = found.keys.append, found.timestamps.append
            add_offset(message.offset())
            add_value(message.value())
            add_key(message.key() or b"")
            add_timestamp(message.timestamp()[1])
        slices = []
        for at in columns.keys() | ends.keys():
            read = columns.get(at) or Columns([], [], [], [])
            last = read.offsets[-1] + 1 if read.offsets else 0
            slices.append(Slice(PartitionId(*at), read, max(last, ends.get(at, 0))))
        # slices of just gained partitions are dropped: they were read before the loss, and are read again
        slices = [s for s in slices if s.place in self._assigned and s.place not in self._gained]
        for slice_ in slices:
            self._reading.advance(slice_.place, slice_.position)
        return slices

    def _resume_gained(self) -> list[Gain]:
        gained, self._gained = self._gained, {}
        if gained:
            self._consumer.resume(self._places(gained))
        return list(gained.values())

    def _new_consumer(self) -> Consumer:
        options = self._options
        self._closing = False
        consumer = Consumer(
            {
                **self._base,
                **group_options(
                    options.group,
                    self._name,
                    options.session_seconds,
                    options.fetch_kilobytes,
                ),
                "enable.partition.eof": True,
                # `_on_assign` always sets the offset to read from
                "auto.offset.reset": "error",
            }
        )
        consumer.subscribe(
            list(options.topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )
        return consumer

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        # a closing consumer may still be assigned partitions, and fetches no offsets
        if self._closing:
            consumer.unassign()
            return
        try:
            found = self._positions.find(consumer, places)
        except KafkaException as fault:
            self._note(fault.args[0])
            self._broken = fault.args[0]
            consumer.assign([])
            return
        starts = [at.start() for at in found]
        consumer.assign(starts)
        consumer.pause(starts)  # so that earlier records are not mistaken for later ones
        self._positions.commit_missing(consumer, found)
        gains = [
            Gain(PartitionId(at.topic, at.partition), at.topic_id, at.position, at.metadata)
            for at in found
        ]
        self._reading.begin(found)
        self._paused = frozenset()
        self._gained = {gain.place: gain for gain in gains}
        self._assigned = set(self._gained)
        self.trouble = ""

    def _on_revoke(self, consumer: Consumer, _places: list[TopicPartition]) -> None:
        consumer.unassign()  # a rebalance revokes all partitions: see `group_options`
        self._lost |= self._assigned
        self._gained, self._assigned, self._paused = {}, set(), frozenset()
        self._reading.begin([])
        if not self._closing and not self.trouble:
            self.trouble = PARTITIONS_TAKEN

    def _places(self, places: Iterable[PartitionId]) -> list[TopicPartition]:
        return [TopicPartition(place.topic, place.partition) for place in places]


class KafkaDeadLetters:
    """`weir.runtime.sink_ports.LetterWriter` on Kafka: writes `events.dead`. One thread at a time."""

    def __init__(self, settings: KafkaSettings, limits: LimitsInForce | None = None) -> None:
        self._options = {**client_options(settings), "acks": "all", "enable.idempotence": True}
        self._limits = limits or WeirsOwnLimits()
        self._producer: Producer | None = None

    def write(self, records: Sequence[DeadRecord]) -> int:
        """See the port."""
        if self._producer is None:
            self._producer = Producer({**self._options, "delivery.timeout.ms": 30_000})
        faults: list[str] = []
        cut = 0
        most = self._limits.present.letter

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                faults.append(str(error))

        try:
            for record in records:
                key = f"{record.place.topic}-{record.place.partition}".encode()
                cut += is_cut(record.key, record.value, most)
                letter = sink_letter(record, most)
                self._producer.produce(topics.DEAD, letter, key, on_delivery=delivered)
        except (BufferError, KafkaException) as fault:
            faults.append(str(fault))
        if self._producer.flush(REQUEST_SECONDS * 4) or faults:
            self._producer = None  # after a fatal error a producer never writes again
            self._limits.refresh()  # the letters may have been refused for their size
            raise DeadLettersFailedError("; ".join(faults[:3]) or "not acknowledged in time")
        return cut
