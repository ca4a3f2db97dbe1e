"""The sink's records on Kafka: one group member that reads many topics, and the writer of dead letters."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from confluent_kafka import (
    KafkaError,
    KafkaException,
    Message,
    Producer,
)

from weir.adapters.dead_letters import sink_letter
from weir.adapters.kafka.clients import client_options, group_options, is_fatal, is_replaced
from weir.adapters.kafka.group_member import GroupMember, Membership
from weir.adapters.kafka.partition_reader import PartitionReader
from weir.adapters.kafka.positions import GroupPositions
from weir.adapters.kafka.transactions import Transactions
from weir.core import topics
from weir.core.dead_letter_content import is_cut
from weir.core.record_limits import LimitsInForce, WeirsOwnLimits
from weir.core.stages import SINK, service_of
from weir.core.topics import PartitionKey
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
        self._begun_after = ""  # the fault that the present clients were created after
        self._lost: set[PartitionId] = set()  # with clients that are closed
        self._held: frozenset[PartitionId] = frozenset()  # partitions that must not be read now
        self._all_held_since: float | None = None
        self._looked_at = time.monotonic()
        self._begin()

    def _begin(self) -> None:
        """Create everything that connects to a broker, at the start and in `_begin_anew`."""
        reader = PartitionReader(self._base, REQUEST_SECONDS)
        service = service_of(self._options.group)
        self._positions = GroupPositions(reader, service, REQUEST_SECONDS)
        self._keeper = Producer({**self._base, "acks": "all", "enable.idempotence": True})
        self._slot = self._take_slot()  # before the consumer joins the group: see `is_replaced`
        options = self._options
        group = group_options(
            options.group, self._name, options.session_seconds, options.fetch_kilobytes
        )
        self._member = GroupMember(
            {**self._base, **group}, options.topics, self._positions, self._note_not_assigned
        )
        self._consumer = self._member.consumer

    @property
    def trouble(self) -> str:
        """See the port."""
        match self._member.membership:
            case Membership.ASSIGNED:
                return ""
            case Membership.REVOKED:
                return PARTITIONS_TAKEN
            case Membership.JOINING:
                return self._begun_after or "its partitions are not assigned yet"

    def poll(self, seconds: float, gather: bool) -> Polled:
        if self._waits():
            time.sleep(min(seconds, HELD_SECONDS))  # not a poll, which would read records
            return Polled(set(), [], [])
        self._member.pause_only(self._held & self._member.owned)
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
        lost = self._lost | _partition_ids(self._member.take_lost())
        self._lost = set()
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
        if not self._held or self._member.assigned - self._held:
            self._all_held_since = None
        elif self._all_held_since is None:
            self._all_held_since = time.monotonic()

    def lag(self) -> Mapping[PartitionId, int]:
        return {PartitionId(*place): n for place, n in self._member.waiting().items()}

    def close(self) -> None:
        self._member.close()

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

    def _note_not_assigned(self, fault: KafkaException) -> None:
        """Handle partitions that are assigned but cannot be read: new clients try it again."""
        self._note(fault.args[0])
        self._broken = fault.args[0]

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
        self._broken, self._failing_since, self._begun_after = None, None, fault.str()
        self.close()
        self._lost |= _partition_ids(self._member.take_lost())
        time.sleep(HELD_SECONDS)
        self._begin()

    def _waits(self) -> bool:
        """Check whether everything is held, but not yet for so long that the group needs a poll."""
        since = self._all_held_since
        return since is not None and time.monotonic() - since < PAUSE_AFTER_SECONDS

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
        owned = self._member.owned
        slices = [slice_ for slice_ in slices if slice_.place in owned]
        for slice_ in slices:
            self._member.reading.advance(slice_.place, slice_.position)
        return slices

    def _resume_gained(self) -> list[Gain]:
        gained = self._member.take_gained()
        if gained:
            self._member.resume(gained)
        return [
            Gain(PartitionId(at.topic, at.partition), at.topic_id, at.position, at.metadata)
            for at in gained.values()
        ]


def _partition_ids(places: Iterable[PartitionKey]) -> set[PartitionId]:
    return {PartitionId(*place) for place in places}


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
