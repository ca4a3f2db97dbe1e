"""From the events of one request to the records that it becomes. Pure but for the ids it mints."""

from dataclasses import dataclass, field

import uuid_utils
from msgspec import Struct

from services.core import topics
from services.core.identifiers import content_digest
from services.edge import avro
from services.gateway.doors.events import Refused, Sent, client_id
from services.gateway.doors.webhook import check_webhook
from services.gateway.encode import AcceptedWriter, Client, SourceFields
from services.gateway.producer import Record
from services.gateway.refusals import Problem, Refusal
from services.gateway.rules import check_event

_encode_rejected = avro.schemas()["Rejected"].encode
_mint = uuid_utils.uuid7


class Origin(Struct, frozen=True):
    """Which source a request is of, when it came, and from whom."""

    source: SourceFields
    received_at: int
    client: Client


@dataclass
class Intake:
    """What a request came to: the records to write, the ids to answer, what was refused."""

    records: list[Record] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def take_events(sent: Sent, origin: Origin) -> Intake:
    """Every event is either accepted or refused; one never affects another."""
    intake = Intake()
    writer = AcceptedWriter(origin.source, origin.received_at, origin.client)
    shared, now = sent.shared, origin.received_at
    salt = b"\0" + shared.raw if shared.raw else b""
    add_record, add_id = intake.records.append, intake.event_ids.append
    prefix = origin.source.key_prefix
    for index, one in enumerate(sent.events):
        raw = bytes(one)
        event = check_event(raw, shared, now)
        if isinstance(event, Refusal):
            refused = Refused(index, client_id(raw), event)
            intake.refused.append(refused)
            add_record(rejected(refused, raw, origin))
            continue
        minted = _mint()
        event_id = str(minted)
        key = (event.idempotency_key or event_id).encode()
        digest = content_digest(raw + salt if salt else raw)
        value = writer.encode(minted.bytes, digest, key, event)
        add_record((topics.ACCEPTED, prefix + content_digest(key), value))
        add_id(event_id)
    return intake


def take_webhook(event_type: str, body: bytes, idempotency_key: str, origin: Origin) -> Intake:
    """As `take_events`, for the one event that a webhook is."""
    event = check_webhook(event_type, body, idempotency_key)
    if isinstance(event, Refusal):
        refused = Refused(0, idempotency_key, event)
        return Intake([rejected(refused, body, origin)], [], [refused])
    minted = _mint()
    key = (idempotency_key or str(minted)).encode()
    writer = AcceptedWriter(origin.source, origin.received_at, origin.client)
    value = writer.encode(minted.bytes, content_digest(body), key, event)
    place = origin.source.key_prefix + content_digest(key)
    return Intake([(topics.ACCEPTED, place, value)], [str(minted)], [])


def rejected(refused: Refused, payload: bytes, origin: Origin) -> Record:
    """The record of `events.rejected` for a refused event."""
    event_id = _mint().bytes
    refusal = refused.refusal
    value = _encode_rejected(
        {
            "event_id": event_id,
            "source": origin.source.source,
            "received_at": origin.received_at,
            "door": origin.client.door,
            "code": refusal.code,
            "field": refusal.field,
            "detail": refusal.text,
            "client_id": refused.client_id,
            "ip": origin.client.ip,
            "user_agent": origin.client.user_agent,
            "payload": payload,
        }
    )
    return topics.REJECTED, event_id, value


def rejected_body(problem: Problem, body: bytes, origin: Origin) -> Record:
    """The record for a request none of whose events could be told apart."""
    refusal = Refusal(problem.code, problem.field, problem.detail)
    return rejected(Refused(0, "", refusal), body, origin)
