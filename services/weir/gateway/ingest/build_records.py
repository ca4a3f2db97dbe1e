"""Validate the events of a request and build their records. Pure, except for new ids and one log message."""

from collections.abc import Callable, Collection

import uuid_utils
from msgspec import Struct

from weir.adapters import avro
from weir.core import topics
from weir.core.blocked_ids import BlockedIds
from weir.core.identifiers import content_digest
from weir.core.record_limits import ADDED_BYTES, RecordLimits
from weir.core.registry import Source
from weir.gateway.http.error_codes import Problem, Refusal, quoted
from weir.gateway.http.signing import REMEMBERED_SECONDS, key_of
from weir.gateway.ingest.accepted_writer import AcceptedWriter, Client, SourceFields
from weir.gateway.ingest.event_name_case import is_cased
from weir.gateway.ingest.ignored_ids import explain as explain_ignored
from weir.gateway.ingest.ignored_ids import has_ignored, ignored_in, without
from weir.gateway.ingest.parsed_events import Outcome, ParsedEvent, ParsedEvents, Refused
from weir.gateway.ingest.producer import KafkaRecord
from weir.gateway.ingest.redact_keys import masked
from weir.gateway.ingest.validation import validate
from weir.runtime import logs

_encode_rejected = avro.schemas()["Rejected"].encode
WEIRS_OWN = RecordLimits()
DIGEST_BYTES = 16  # of the idempotency key, in the record's key
MAX_TEXT = 4_096  # characters of a refusal's field and text, which may quote the client
_log = logs.get("gateway")


def no_client_id(_: ParsedEvent) -> str:
    return ""


class RecordContext(Struct, frozen=True):
    """The source, time and client of a request, with the door's functions and the size limits for its records."""

    source: SourceFields
    received_at: int
    client: Client
    key: str = ""  # the write key in the request; empty: none
    signed: bytes = b""  # a digest of the signed bytes; empty: not signed
    # The door's function that masks further write keys in a payload; `bytes`: it masks none
    redact: Callable[[bytes], bytes] = bytes
    client_id: Callable[[ParsedEvent], str] = no_client_id  # the door's
    limits: RecordLimits = WEIRS_OWN


class RequestRecords(Struct):
    """The result of a request: the records to write, the ids for the answer, the rejected events."""

    records: list[KafkaRecord] = []
    event_ids: list[str] = []
    refused: list[Refused] = []
    warnings: list[str] = []
    ignored_ids: list[str] = []  # field names, one entry for each ignored id

    def outcome(self) -> Outcome:
        return Outcome(self.event_ids, self.refused, self.warnings, ignored_ids=self.ignored_ids)


def build_records(
    events: ParsedEvents,
    source: Source,
    context: RecordContext,
    mint: Callable[[], uuid_utils.UUID] = uuid_utils.uuid7,
) -> RequestRecords:
    """Accept each event, with an id from `mint`, or reject it; no event affects another."""
    made = RequestRecords(warnings=[*events.warnings])
    window = events.window_seconds
    if context.signed:
        window = max(window or source.dedup_window_seconds, REMEMBERED_SECONDS)
    writer = AcceptedWriter(context.source, context.received_at, context.client, window)
    salt = b"\0" + events.shared.raw if events.shared.raw else b""
    add_record, add_id = made.records.append, made.event_ids.append
    payload_of = events.payload_of
    prefix = context.source.key_prefix
    casing = source.event_casing
    signed, shared, policy = context.signed, events.shared, events.policy
    blocked = BlockedIds.of(source.blocked_ids, source.block_default_ids)
    most = context.limits.event - len(prefix) - DIGEST_BYTES
    for index, parsed in enumerate(events.events):
        raw = parsed.raw
        event = validate(parsed.event, raw, shared, context.received_at, policy)
        if (
            casing
            and not isinstance(event, Refusal)
            and event.name not in policy.uncased_names
            and not is_cased(event.name, casing)
        ):
            text = f"{quoted(event.name)} is not {casing}, the casing of this source's event names"
            if source.enforce_casing:
                event = Refusal("wrong_casing", policy.field("event"), text)
            else:
                made.warnings.append(f"event {index}: {text}")
        if isinstance(event, Refusal):
            refused = Refused(index, context.client_id(parsed), event)
            made.refused.append(refused)
            add_record(rejected(refused, raw, context))
            continue
        if has_ignored(event, blocked):
            ignored = ignored_in(event, blocked)
            event = without(event, ignored, events.new_profile_id)
            texts = explain_ignored(ignored, policy)
            made.warnings += [f"event {index}: {text}" for text in texts]
            made.ignored_ids += ignored
        minted = mint()
        event_id = str(minted)
        own_key = event.idempotency_key or (key_of(signed, index) if signed else event_id)
        key = own_key.encode()
        payload = raw if payload_of is None else payload_of(event)
        digest = content_digest(payload + salt if salt else payload)
        value = writer.encode(minted.bytes, digest, key, event)
        if len(value) > most:
            text = context.limits.explain_event(len(value) + context.limits.event - most)
            refused = Refused(index, context.client_id(parsed), Refusal("too_large", "", text))
            made.refused.append(refused)
            add_record(rejected(refused, events.whole(raw), context))
            continue
        add_record((topics.ACCEPTED, prefix + content_digest(key), value))
        add_id(event_id)
    return made


def refuse_unwritable(
    made: RequestRecords, places: Collection[int], events: ParsedEvents, context: RecordContext
) -> RequestRecords:
    """Return the result of a request after the brokers refused the records at `places`; the others are stored.

    Its `records` are only those that remain to be written: the `events.rejected` records of these events.
    """
    topic_of = [topic for topic, _, _ in made.records]
    accepted = [place for place, topic in enumerate(topic_of) if topic == topics.ACCEPTED]
    ids = dict(zip(accepted, made.event_ids, strict=True))
    refused = {one.index: one for one in made.refused}
    left = RequestRecords(warnings=made.warnings, ignored_ids=made.ignored_ids)
    for place, parsed in enumerate(events.events):
        if place not in places:
            continue
        if place not in refused:
            _, key, value = made.records[place]
            size = len(key) + len(value or b"")
            text = f"{size:,} bytes as a record, too large for the topic {topics.ACCEPTED}"
            refusal = Refusal("too_large", "", text)
            refused[place] = Refused(place, context.client_id(parsed), refusal)
        left.records.append(rejected(refused[place], events.whole(parsed.raw), context))
    left.event_ids = [event_id for place, event_id in ids.items() if place not in places]
    left.refused = [refused[place] for place in sorted(refused)]
    return left


def rejected(refused: Refused, payload: bytes, context: RecordContext) -> KafkaRecord:
    """Return the `events.rejected` record of an event, as (topic, key, value), with write keys masked.

    A payload too large for a record is truncated. That happens only if the body limit is above the topic's
    limit, or if a door builds a payload larger than the body that the client sent.
    """
    event_id = uuid_utils.uuid7().bytes
    refusal = refused.refusal
    payload = masked(context.redact(payload), context.key)
    room = max(0, context.limits.of(topics.REJECTED) - ADDED_BYTES)
    if len(payload) > room:
        digest = content_digest(payload).hex()
        stored = f"Only the first {room:,} of {len(payload):,} bytes are stored"
        text = f"{stored} (BLAKE2b-128 of all: {digest}). {refusal.text}"
        refusal, payload = refusal._replace(text=text), payload[:room]
        _log.error(
            "a rejected payload is stored only in part", source=context.source.source, room=room
        )
    value = _encode_rejected(
        {
            "event_id": event_id,
            "source": context.source.source,
            "received_at": context.received_at,
            "door": context.client.door,
            "code": refusal.code,
            "field": refusal.field[:MAX_TEXT],
            "detail": refusal.text[:MAX_TEXT],
            "client_id": refused.client_id,
            "ip": context.client.ip,
            "user_agent": context.client.user_agent,
            "payload": payload,
        }
    )
    return topics.REJECTED, event_id, value


def rejected_body(problem: Problem, body: bytes, context: RecordContext) -> KafkaRecord:
    """Return the `events.rejected` record of a body that was rejected as a whole."""
    refusal = Refusal(problem.code, problem.field, problem.detail)
    return rejected(Refused(0, "", refusal), body, context)
