"""Find one event's records in the topics by the bytes of its id, and compare them with the groups' positions.

An event id contains its time of minting, so only records written around that time have to be read. From
the first record the search follows the event stage by stage. A client's own id contains no time, so the
search reads the latest records of `events.accepted`.
"""

import time
import uuid
import zlib
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Message

from weir.adapters import avro
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.search import REQUEST_SECONDS, KafkaSearch, Matches
from weir.core import topics
from weir.core.identifiers import SEPARATOR, content_digest, dedup_key
from weir.core.stages import DEDUP, EVENT_STAGES
from weir.core.topics import PartitionKey
from weir.event_status.clickhouse_rows import SourceScope
from weir.event_status.model import EventRow, TopicEvidence, TopicRecord
from weir.settings.shared import KafkaSettings

SKEW_MS = 5_000  # most difference between the clocks of two machines
WRITTEN_MS = 60_000  # most time between an id's minting and its record's timestamp
LOOK_BACK = 100_000  # records per partition to read for a client's own id
ID = slice(avro.HEADER_BYTES, avro.HEADER_BYTES + 16)


class TopicSearch:
    """One search; close it. `UnavailableError` if no broker answers, `RefusedError` if one refuses."""

    def __init__(self, settings: KafkaSettings, seconds: float) -> None:
        """`seconds`: limit for all reading together; what was not read by then is named in `bounds`."""
        self._admin = KafkaAdmin(settings, REQUEST_SECONDS)
        counts = {name: topic.partitions for name, topic in self._admin.topics(False).items()}
        self._search = KafkaSearch(settings, counts, self._admin.held, seconds)
        # the gateway's producer uses librdkafka's default partitioner: CRC-32 of the key
        self._placed_by_crc = "partitioner" not in (settings.kafka_options or {})
        self._accepted = avro.PrefixReader("Accepted", "door")
        self._resolved = avro.PrefixReader("Resolved", "session_id")
        self._rejected = avro.PrefixReader("Rejected", "client_id")

    def close(self) -> None:
        self._search.close()
        self._admin.close()

    def of_event(self, event_id: uuid.UUID, minted: int, scope: SourceScope) -> TopicEvidence:
        """Return the trail of the event to which the gateway gave this id at `minted` (epoch milliseconds)."""
        at_the_door = (topics.ACCEPTED, topics.REJECTED)
        sought = event_id.bytes
        with_id = self._search.since(at_the_door, minted - SKEW_MS)
        found = self._search.scan(with_id, _has_id(sought), minted + WRITTEN_MS, at_the_door)
        found = found or self._search.scan_held(at_the_door, _has_id(sought), at_the_door)
        for message in found:
            if message.topic() == topics.REJECTED:
                rejected = _record(message)
                if rejected and _within(rejected["source"], scope):
                    return self._trail(sought, rejected=rejected)
            elif _within(_source_of(message), scope):
                return self._follow(message)
        dead = self._dead(sought, minted - SKEW_MS)
        if dead is not None and _within(dead["source"], scope):
            return self._trail(sought, dead=dead)
        return self._trail(b"")

    def of_key(self, key: str, scope: SourceScope) -> TopicEvidence:
        """Return the trail of the first event, among the latest records, that a client sent with this id."""
        digest, text = content_digest(key.encode()), key.encode()
        seen: set[bytes] = set()

        def matches(message: Message) -> bool:
            """Match the first accepted event of each source, and rejected events with this client id.

            Matches are held in memory, so a rejected payload (megabytes) that only contains the id
            somewhere must not match.
            """
            if message.topic() == topics.ACCEPTED:
                dedup = message.key() or b""
                if not dedup.endswith(SEPARATOR.encode() + digest) or dedup in seen:
                    return False
                seen.add(dedup)
                return True
            return text in _value(message) and self._client_id(message) == key

        places = self._search.places(topics.ACCEPTED)
        ends = self._admin.positions(DEDUP.group, places)  # unread records are all searched
        starts = self._search.before(self._places_of(key, scope), ends, LOOK_BACK)
        found = self._search.scan(starts, matches, _now(), ())
        found = found or self._search.scan_held((topics.ACCEPTED, topics.REJECTED), matches, ())
        first, refused = None, None
        for message in found:
            if message.topic() == topics.REJECTED:
                record = _record(message)
                if record and record["client_id"] == key and _within(record["source"], scope):
                    refused = record
            elif first is None and _within(_source_of(message), scope):
                first = message
        if first is not None:
            return self._follow(first)
        if refused is not None:
            return self._trail(uuid.UUID(refused["event_id"]).bytes, rejected=refused)
        return self._trail(b"")

    def _follow(self, accepted: Message) -> TopicEvidence:
        """Return the trail of an accepted event.

        Each stage's position is read before its output, so that a settled record's output is found.
        """
        event_id = _value(accepted)[ID]
        event = self._fields(self._accepted, accepted)
        at_dedup = self._sight(accepted)
        if at_dedup.waiting:
            return self._trail(event_id, event, [at_dedup])
        found = self._after(event_id, at_dedup, topics.UNIQUE, topics.DUPLICATE, topics.DEAD)
        if topics.UNIQUE not in found:
            duplicate = _record(found.get(topics.DUPLICATE))
            dead = _letter(found.get(topics.DEAD), event_id)
            return self._trail(event_id, event, [at_dedup], duplicate=duplicate, dead=dead)
        at_identity = self._sight(found[topics.UNIQUE])
        if at_identity.waiting:
            return self._trail(event_id, event, [at_dedup, at_identity])
        found = self._after(event_id, at_identity, topics.RESOLVED, topics.DEAD, also=topics.UNIQUE)
        if topics.RESOLVED in found:
            event |= self._fields(self._resolved, found[topics.RESOLVED])
            at_sink = self._sight(found[topics.RESOLVED])
            dead = None if at_sink.waiting else self._dead(event_id, at_sink.at - SKEW_MS)
            return self._trail(event_id, event, [at_dedup, at_identity, at_sink], dead=dead)
        if topics.UNIQUE in found:  # identity has written it again, for another identifier
            at_identity = self._sight(found[topics.UNIQUE])
        dead = _letter(found.get(topics.DEAD), event_id)
        return self._trail(event_id, event, [at_dedup, at_identity], dead=dead)

    def _after(
        self, event_id: bytes, seen: TopicRecord, *ending: str, also: str = ""
    ) -> dict[str, Message]:
        """Return, by topic, the event's records since it was last seen.

        The search ends at the first record in one of the topics `ending`; `also`: a topic that does not end it.
        """
        names = (*ending, also) if also else ending
        starts = self._search.since(names, seen.at - SKEW_MS)
        found = self._search.scan(starts, _has_id(event_id), _now(), ending)
        if not any(message.topic() in ending for message in found):
            found += self._search.scan_held(names, _has_id(event_id), ending)
        return {message.topic(): message for message in found}

    def _dead(self, event_id: bytes, since: int) -> EventRow | None:
        starts = self._search.since((topics.DEAD,), since)
        found = self._search.scan(starts, _has_id(event_id), _now(), (topics.DEAD,))
        return _letter(found[0], event_id) if found else None

    def _trail(
        self,
        event_id: bytes,
        event: EventRow | None = None,
        seen: Iterable[TopicRecord] = (),
        **endings: EventRow | None,
    ) -> TopicEvidence:
        text = str(uuid.UUID(bytes=event_id)) if event_id else ""
        return TopicEvidence(
            text, event or {}, tuple(seen), bounds=tuple(self._search.bounds), **endings
        )

    def _sight(self, message: Message) -> TopicRecord:
        place = (message.topic(), message.partition())
        group = EVENT_STAGES[message.topic()].group
        position = self._admin.positions(group, [place]).get(place, -1)
        waiting = position <= message.offset()
        held = waiting and self._search.is_held(message)
        return TopicRecord(message.topic(), message.timestamp()[1], waiting, held)

    def _fields(self, reader: avro.PrefixReader, message: Message) -> dict[str, Any]:
        try:
            return {**_texts(reader.read(_value(message)))}
        except (avro.UnknownSchemaError, avro.UnreadableError):
            return {"source": _source_of(message)} if message.topic() == topics.ACCEPTED else {}

    def _client_id(self, refused: Message) -> str:
        try:
            return str(self._rejected.read(_value(refused))["client_id"])
        except (avro.UnknownSchemaError, avro.UnreadableError):
            return ""

    def _places_of(self, key: str, scope: SourceScope) -> set[PartitionKey]:
        """Return the partitions that may hold events with a client's id, accepted or rejected."""
        accepted = self._search.places(topics.ACCEPTED)
        if scope is not None and self._placed_by_crc and accepted:
            numbers = {zlib.crc32(dedup_key(source, key)) % len(accepted) for source in scope}
            accepted = {(topics.ACCEPTED, number) for number in numbers}
        return accepted | self._search.places(topics.REJECTED)


def _has_id(event_id: bytes) -> Matches:
    """Match records of an event: by its id after the header, or anywhere in a dead letter."""

    def matches(message: Message) -> bool:
        value = _value(message)
        return value[ID] == event_id or (message.topic() == topics.DEAD and event_id in value)

    return matches


def _value(message: Message) -> bytes:
    return message.value() or b""


def _source_of(accepted: Message) -> str:
    return (accepted.key() or b"").partition(SEPARATOR.encode())[0].decode("utf-8", "replace")


def _within(source: str, scope: SourceScope) -> bool:
    return scope is None or source in scope


def _letter(message: Message | None, event_id: bytes) -> EventRow | None:
    record = _record(message)
    return record and {**record, "event_id": str(uuid.UUID(bytes=event_id))}


def _record(message: Message | None) -> EventRow | None:
    """Return the decoded record. None: there is no message, or its schema is unknown, or it is damaged."""
    if message is None:
        return None
    try:
        return _texts(avro.read_whole(_value(message)))
    except (avro.UnknownSchemaError, avro.UnreadableError):
        return None


def _texts(record: avro.AvroRecord) -> EventRow:
    """Return the record with its event ids as text."""
    return {
        name: str(uuid.UUID(bytes=value)) if name.endswith("event_id") and value else value
        for name, value in record.items()
    }


def _now() -> int:
    return time.time_ns() // 1_000_000 + SKEW_MS
