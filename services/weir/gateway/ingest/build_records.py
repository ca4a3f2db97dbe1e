"""From the parcel of one request to the records that it becomes. Pure but for the ids it mints."""

from collections.abc import Callable, Collection

import uuid_utils
from msgspec import Struct

from weir.adapters import avro
from weir.core import topics
from weir.core.blocked_ids import BlockedIds
from weir.core.identifiers import content_digest
from weir.core.record_limits import ADDED_BYTES, RecordLimits
from weir.core.registry import Source
from weir.gateway.doors.door import Outcome, ParsedEvents, Refused
from weir.gateway.ingest.accepted_writer import AcceptedWriter, Client, SourceFields
from weir.gateway.ingest.error_codes import Problem, Refusal, quoted
from weir.gateway.ingest.event_name_case import is_cased
from weir.gateway.ingest.ignored_ids import explain as explain_ignored
from weir.gateway.ingest.ignored_ids import has_ignored, ignored_in, without
from weir.gateway.ingest.producer import Record
from weir.gateway.ingest.redact_keys import masked
from weir.gateway.ingest.signing import key_of
from weir.runtime import logs

_encode_rejected = avro.schemas()["Rejected"].encode
WEIRS_OWN = RecordLimits()
DIGEST_BYTES = 16  # of the idempotency key, in the record's key
MAX_TEXT = 4_096  # characters of a refusal's field and text: a client's own name may stand in them
_log = logs.get("gateway")


class RecordContext(Struct, frozen=True):
    """Which source a request is of, when it came, and from whom."""

    source: SourceFields
    received_at: int
    client: Client
    key: str = ""  # that the request claimed; empty: none
    mask: Callable[[bytes], bytes] = bytes  # the door's, for other keys; `bytes`: there are none
    limits: RecordLimits = WEIRS_OWN


class RequestRecords(Struct):
    """What a request came to: the records to write, the ids to answer, what was refused."""

    records: list[Record] = []
    event_ids: list[str] = []
    refused: list[Refused] = []
    warnings: list[str] = []
    ignored_ids: list[str] = []  # fields, once for each id that is none

    def outcome(self) -> Outcome:
        return Outcome(self.event_ids, self.refused, self.warnings)


def build_records(
    parcel: ParsedEvents,
    source: Source,
    origin: RecordContext,
    mint: Callable[[], uuid_utils.UUID] = uuid_utils.uuid7,
) -> RequestRecords:
    """Every event is either accepted, under an id from `mint`, or refused; one never affects another."""
    intake = RequestRecords(warnings=[*parcel.warnings])
    writer = AcceptedWriter(origin.source, origin.received_at, origin.client, parcel.window_seconds)
    salt = b"\0" + parcel.shared.raw if parcel.shared.raw else b""
    add_record, add_id = intake.records.append, intake.event_ids.append
    payload_of = parcel.payload_of
    prefix = origin.source.key_prefix
    casing = source.event_casing
    signed = parcel.signed
    blocked = BlockedIds.of(source.blocked_ids, source.block_default_ids)
    most = origin.limits.event - len(prefix) - DIGEST_BYTES
    for index, (raw, event) in enumerate(parcel.checked(origin.received_at)):
        if (
            casing
            and not isinstance(event, Refusal)
            and event.name not in parcel.uncased_names
            and not is_cased(event.name, casing)
        ):
            text = f"{quoted(event.name)} is not {casing}, as this source writes its events"
            if source.enforce_casing:
                event = Refusal("wrong_casing", parcel.words.get("event", "event"), text)
            else:
                intake.warnings.append(f"event {index}: {text}")
        if isinstance(event, Refusal):
            refused = Refused(index, parcel.client_id(index), event)
            intake.refused.append(refused)
            add_record(rejected(refused, raw, origin))
            continue
        if has_ignored(event, blocked):
            ignored = ignored_in(event, blocked)
            event = without(event, ignored)
            texts = explain_ignored(ignored, parcel.words)
            intake.warnings += [f"event {index}: {text}" for text in texts]
            intake.ignored_ids += ignored
        minted = mint()
        event_id = str(minted)
        own_key = event.idempotency_key or (key_of(signed, index) if signed else event_id)
        key = own_key.encode()
        payload = raw if payload_of is None else payload_of(event)
        digest = content_digest(payload + salt if salt else payload)
        value = writer.encode(minted.bytes, digest, key, event)
        if len(value) > most:
            text = origin.limits.explain_event(len(value) + origin.limits.event - most)
            refused = Refused(index, parcel.client_id(index), Refusal("too_large", "", text))
            intake.refused.append(refused)
            add_record(rejected(refused, parcel.whole(raw), origin))
            continue
        add_record((topics.ACCEPTED, prefix + content_digest(key), value))
        add_id(event_id)
    return intake


def refuse_unwritable(
    intake: RequestRecords, places: Collection[int], parcel: ParsedEvents, origin: RecordContext
) -> RequestRecords:
    """What a request comes to if the brokers refuse the records at these places; the others are stored.

    Its records are those that remain to be written: the refusals.
    """
    topic_of = [topic for topic, _, _ in intake.records]
    accepted = [place for place, topic in enumerate(topic_of) if topic == topics.ACCEPTED]
    ids = dict(zip(accepted, intake.event_ids, strict=True))
    refused = {one.index: one for one in intake.refused}
    left = RequestRecords(warnings=intake.warnings, ignored_ids=intake.ignored_ids)
    for place, (raw, _) in enumerate(parcel.checked(origin.received_at)):
        if place not in places:
            continue
        if place not in refused:
            _, key, value = intake.records[place]
            size = len(key) + len(value or b"")
            text = f"{size:,} bytes as a record, which the topic {topics.ACCEPTED} refuses"
            refusal = Refusal("too_large", "", text)
            refused[place] = Refused(place, parcel.client_id(place), refusal)
        left.records.append(rejected(refused[place], parcel.whole(raw), origin))
    left.event_ids = [event_id for place, event_id in ids.items() if place not in places]
    left.refused = [refused[place] for place in sorted(refused)]
    return left


def rejected(refused: Refused, payload: bytes, origin: RecordContext) -> Record:
    """The record of `events.rejected` for a refused event: its payload, but for write keys.

    A payload that no record can hold is cut. That takes a body limit above what the topic allows, or
    a door that makes more of a body than its client sent.
    """
    event_id = uuid_utils.uuid7().bytes
    refusal = refused.refusal
    payload = masked(origin.mask(payload), origin.key)
    room = max(0, origin.limits.of(topics.REJECTED) - ADDED_BYTES)
    if len(payload) > room:
        digest = content_digest(payload).hex()
        stored = f"Only the first {room:,} of {len(payload):,} bytes are stored"
        text = f"{stored} (BLAKE2b-128 of all: {digest}). {refusal.text}"
        refusal, payload = refusal._replace(text=text), payload[:room]
        _log.error("a refused payload is stored in part", source=origin.source.source, room=room)
    value = _encode_rejected(
        {
            "event_id": event_id,
            "source": origin.source.source,
            "received_at": origin.received_at,
            "door": origin.client.door,
            "code": refusal.code,
            "field": refusal.field[:MAX_TEXT],
            "detail": refusal.text[:MAX_TEXT],
            "client_id": refused.client_id,
            "ip": origin.client.ip,
            "user_agent": origin.client.user_agent,
            "payload": payload,
        }
    )
    return topics.REJECTED, event_id, value


def rejected_body(problem: Problem, body: bytes, origin: RecordContext) -> Record:
    """The record for a request none of whose events could be told apart."""
    refusal = Refusal(problem.code, problem.field, problem.detail)
    return rejected(Refused(0, "", refusal), body, origin)
