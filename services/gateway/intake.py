"""From the parcel of one request to the records that it becomes. Pure but for the ids it mints."""

from collections.abc import Callable

import uuid_utils
from msgspec import Struct

from services.core import topics
from services.core.identifiers import content_digest
from services.core.registry import Source
from services.edge import avro
from services.gateway.casing import is_cased
from services.gateway.door import Outcome, Parcel, Refused
from services.gateway.encode import AcceptedWriter, Client, SourceFields
from services.gateway.masking import masked
from services.gateway.producer import Record
from services.gateway.refusals import Problem, Refusal, quoted

_encode_rejected = avro.schemas()["Rejected"].encode


class Origin(Struct, frozen=True):
    """Which source a request is of, when it came, and from whom."""

    source: SourceFields
    received_at: int
    client: Client
    key: str = ""  # that the request claimed; empty: none
    mask: Callable[[bytes], bytes] = bytes  # the door's, for other keys; `bytes`: there are none


class Intake(Struct):
    """What a request came to: the records to write, the ids to answer, what was refused."""

    records: list[Record] = []
    event_ids: list[str] = []
    refused: list[Refused] = []
    warnings: list[str] = []

    def outcome(self) -> Outcome:
        return Outcome(self.event_ids, self.refused, self.warnings)


def take(
    parcel: Parcel,
    source: Source,
    origin: Origin,
    mint: Callable[[], uuid_utils.UUID] = uuid_utils.uuid7,
) -> Intake:
    """Every event is either accepted, under an id from `mint`, or refused; one never affects another."""
    intake = Intake()
    writer = AcceptedWriter(origin.source, origin.received_at, origin.client, parcel.window_seconds)
    salt = b"\0" + parcel.shared.raw if parcel.shared.raw else b""
    add_record, add_id = intake.records.append, intake.event_ids.append
    payload_of = parcel.payload_of
    prefix = origin.source.key_prefix
    casing = source.event_casing
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
        minted = mint()
        event_id = str(minted)
        key = (event.idempotency_key or event_id).encode()
        payload = raw if payload_of is None else payload_of(event)
        digest = content_digest(payload + salt if salt else payload)
        value = writer.encode(minted.bytes, digest, key, event)
        add_record((topics.ACCEPTED, prefix + content_digest(key), value))
        add_id(event_id)
    return intake


def rejected(refused: Refused, payload: bytes, origin: Origin) -> Record:
    """The record of `events.rejected` for a refused event: its payload, but for write keys."""
    event_id = uuid_utils.uuid7().bytes
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
            "payload": masked(origin.mask(payload), origin.key),
        }
    )
    return topics.REJECTED, event_id, value


def rejected_body(problem: Problem, body: bytes, origin: Origin) -> Record:
    """The record for a request none of whose events could be told apart."""
    refusal = Refusal(problem.code, problem.field, problem.detail)
    return rejected(Refused(0, "", refusal), body, origin)
