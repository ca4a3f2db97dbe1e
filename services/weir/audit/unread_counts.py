"""Read the groups' positions from Kafka, and count unread records by source and minute."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from weir.adapters import avro
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.clients import UNCOMMITTED, client_options, is_record, lone_options
from weir.adapters.kafka.partition_reader import PartitionReader, unavailable_on_error
from weir.core.stages import DEDUP, RATES, STAGES
from weir.core.topics import PartitionKey
from weir.settings.shared import KafkaSettings

# without rates: it only counts what the other stages report, and no stage waits for it
AUDITED = {stage.group: stage.reads for stage in STAGES if stage is not RATES}
READ_AT_MOST = 10_000  # unread records of a topic; of more only the number is known
READ_SECONDS = 30.0  # enough for a busy broker; what is not read by then is not judged
REQUEST_SECONDS = 10.0
FETCH_RECORDS = 5_000
REST_MS = 20
MINUTE_MS = 60_000

SourceMinute = tuple[str, int]  # source, minute of receipt (epoch seconds)
Span = tuple[int, int]  # offsets of events.accepted: first, and one past the last


@dataclass
class UnreadCounts:
    """The records of one topic that its group had not read when its positions were asked for.

    `cells` None: too many, or too slow, to read; then `records` counts offsets, and some hold no record.
    """

    records: int = 0
    cells: Counter[SourceMinute] | None = field(default_factory=Counter)
    # for `usage`: the offsets that dedup's deltas cover, by partition
    spans: dict[int, list[Span]] = field(default_factory=dict)
    held: int = 0  # of these records, those behind an open transaction, which may yet be aborted


class UnreadCounter:
    """A connection to Kafka; close it. `UnavailableError`, `RefusedError` if Kafka does not answer or refuses."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._admin = KafkaAdmin(settings)
        options = {**lone_options(settings, REST_MS), "log_level": 0}
        self._reader = Consumer(options)
        self._held_reader = Consumer({**options, **UNCOMMITTED})
        self._partitions = PartitionReader(
            {**client_options(settings), "log_level": 0}, REQUEST_SECONDS
        )

    def close(self) -> None:
        self._reader.close()
        self._held_reader.close()
        self._admin.close()

    def positions(self) -> dict[PartitionKey, int]:
        """Return, by partition read, the next offset of each audited group; -1: none yet.

        Every record before that offset was settled before this call: its output is in the next stage's
        topics, or in ClickHouse if the sink has read it.
        """
        counts = {name: topic.partitions for name, topic in self._admin.topics(False).items()}
        found: dict[PartitionKey, int] = {}
        for group, names in AUDITED.items():
            places = [(name, p) for name in names for p in range(counts.get(name, 0))]
            committed = self._admin.positions(group, places)
            found |= {place: committed.get(place, -1) for place in places}
        return found

    def topic_id(self, name: str) -> str:
        with unavailable_on_error():
            return self._partitions.topic_ids([name])[name]

    def unread(self, positions: Mapping[PartitionKey, int]) -> dict[str, UnreadCounts]:
        """Return, by topic, the records from these positions on, including those behind open transactions."""
        spans = self._behind(positions)
        held = {
            place: (max(start, spans[place][0]), min(end, spans[place][1]))
            for place, (start, end) in self._admin.held(spans).items()
        }
        offsets: Counter[str] = Counter()
        for (topic, _), (first, end) in spans.items():
            offsets[topic] += end - first
        few = {place: span for place, span in spans.items() if offsets[place[0]] <= READ_AT_MOST}
        read = {topic: UnreadCounts() for topic, _ in positions}
        readable = {
            at: (first, held[at][0] if at in held else end) for at, (first, end) in few.items()
        }
        left = self._read(
            self._reader, readable, lambda message: _enter(read[message.topic()], message)
        )
        left |= self._read(
            self._held_reader,
            {at: span for at, span in held.items() if at in few},
            lambda message: _enter_held(read[message.topic()], message),
        )
        for topic, _ in {*left, *(spans.keys() - few.keys())}:
            behind = sum(end - first for at, (first, end) in held.items() if at[0] == topic)
            read[topic] = UnreadCounts(offsets[topic], None, held=behind)
        return read

    def records(self, place: PartitionKey, span: Span) -> int | None:
        """Return the number of committed records of a partition between two offsets.

        None: unknown, since some records were deleted or could not be read in time.
        """
        if self._admin.offsets({place: OffsetSpec.earliest()}).get(place, 0) > span[0]:
            return None
        found: list[int] = []
        left = self._read(
            self._reader, {place: span}, lambda message: found.append(message.offset())
        )
        return None if left else len(found)

    def _behind(self, positions: Mapping[PartitionKey, int]) -> dict[PartitionKey, Span]:
        """Return, by partition, the offsets from its position to its end, if there are any."""
        firsts = self._admin.offsets(dict.fromkeys(positions, OffsetSpec.earliest()))
        ends = self._admin.offsets(dict.fromkeys(positions, OffsetSpec.latest()))
        spans = {}
        for place, position in positions.items():
            first, end = firsts.get(place, 0), ends.get(place, 0)
            # a position past the end belongs to a topic that was recreated: nothing of it is read yet
            start = max(first, position) if position <= end else first
            if start < end:
                spans[place] = (start, end)
        return spans

    def _read(
        self, reader: Consumer, spans: Mapping[PartitionKey, Span], apply: Callable[[Message], None]
    ) -> set[PartitionKey]:
        """Call `apply` with every record that the reader receives of these offsets.

        Return the partitions that could not be read to their end in time.
        """
        left = {at: span for at, span in spans.items() if span[0] < span[1]}
        deadline = time.monotonic() + READ_SECONDS
        with unavailable_on_error():
            reader.assign([TopicPartition(*at, span[0]) for at, span in left.items()])
            while left and time.monotonic() < deadline:
                for message in _consume(reader):
                    place = (message.topic(), message.partition())
                    if place not in left:
                        continue
                    error = message.error()
                    if error is not None and error.code() == KafkaError._PARTITION_EOF:
                        del left[place]
                    elif is_record(message):
                        if left[place][0] <= message.offset() < left[place][1]:
                            apply(message)
                        if message.offset() + 1 >= left[place][1]:
                            del left[place]
            reader.unassign()
        return set(left)


def _consume(reader: Consumer) -> list[Message]:
    first = reader.poll(0.1)
    return [] if first is None else [first, *reader.consume(FETCH_RECORDS, 0)]


def _enter_held(unread: UnreadCounts, message: Message) -> None:
    unread.held += 1
    _enter(unread, message)


def _enter(unread: UnreadCounts, message: Message) -> None:
    unread.records += 1
    fields = _fields(message)
    time_ms = fields.get("minute", fields.get("received_at"))
    if unread.cells is not None and time_ms is not None:
        unread.cells[fields["source"], time_ms // MINUTE_MS * 60] += 1
    if fields.get("stage") == DEDUP.name:
        covered = (fields["first"], fields["position"])
        unread.spans.setdefault(fields["origin_partition"], []).append(covered)


def _fields(message: Message) -> avro.AvroRecord:
    """Return the record's fields; for an unreadable record, the source and time that a worker would assume."""
    value = message.value() or b""
    try:
        name = avro.schema_of(value).name
        return _leading(name).read(value) if name in LEADING else avro.read_whole(value)
    except (avro.UnknownSchemaError, avro.UnreadableError):
        source = (message.key() or b"").partition(b"\0")[0].decode("utf-8", "replace")
        return {"source": source, "received_at": message.timestamp()[1]}


LEADING = ("Accepted", "Resolved")  # their payloads need not be read


@cache
def _leading(name: str) -> avro.PrefixReader:
    return avro.PrefixReader(name, "source")
