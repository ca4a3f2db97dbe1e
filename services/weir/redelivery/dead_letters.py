"""Plan how to resend a dead letter to the topic it was read from, unchanged or edited. Pure."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from weir.adapters import avro
from weir.core import topics
from weir.core.identifiers import PUBLIC_MARK, dedup_key, identity_key, workspace_key
from weir.gateway.http.error_codes import Refusal
from weir.gateway.ingest.validation import Policy, SentEvent, Shared, validate
from weir.redelivery.edits import Edit, NoSuchPathError, shown
from weir.redelivery.model import Identity, LetterKind, Write
from weir.redelivery.plans import (
    REFUSED_AGAIN,
    NotSendable,
    Plan,
    PlannedWrite,
    RejectedAgain,
    gateway_partition,
)

DOCUMENTS = ("properties", "context")
DESCRIBING = {"event", "occurred_at", "value", "ip", "user_agent", *DOCUMENTS}
NAMING = {"user_id", "anonymous_id", "client_profile_id", "client_session_id"}
# The fields that may be edited, by the topic that a letter goes back to: fields that an earlier stage based a
# decision on must stay. They are fields of the record, as `weir dead show` names them.
EDITABLE = {
    topics.ACCEPTED: DESCRIBING | NAMING | {"idempotency_key"},
    topics.UNIQUE: DESCRIBING | NAMING,
    topics.RESOLVED: DESCRIBING,
}
# Topics whose records may be written again: their reader has not processed this record, or recognizes it.
AGAIN = {*EDITABLE, topics.DUPLICATE, topics.REJECTED, topics.DEAD}
STATE = {
    topics.USAGE: "rates and the sink both read it, and the one that did not fail has counted it",
    topics.PROFILES: "it is identity's state, which has changed since",
    topics.QUOTAS: "it is rates' state, which has changed since",
    topics.RECOVERIES: "it belongs to the ledger of replays",
}
IDENTIFY = "$identify"  # an event name that is always accepted
ANY_NAME = Policy(own_names=None, spaced_names=True)
NOT_A_RECORD = (
    "its bytes cannot be read, so it cannot be edited; without edits it is sent unchanged"
)


@dataclass(frozen=True)
class DeadLetter:
    """A row of `weir.dead`."""

    topic: str
    partition: int
    offset: int
    step: str
    source: str
    received_at: int
    event_id: bytes | None
    key: bytes
    value: bytes
    kind: ClassVar[LetterKind] = "dead"

    @property
    def name(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class NotEditableError(ValueError):
    """The letter cannot be edited so; the text says why, and which fields can be edited."""


def plan(
    letter: DeadLetter, edits: Sequence[Edit], partitions: Mapping[str, int]
) -> Plan | NotSendable:
    """Return the records to write, or why the letter cannot be sent.

    `partitions`: the number of partitions by topic.
    """
    if letter.topic not in AGAIN:
        why = STATE.get(letter.topic, "no service reads this topic")
        return NotSendable(
            f"{letter.topic} is not written again: {why}. `weir replay` restores what the topic"
            " still has to ClickHouse"
        )
    if not edits:
        write = Write(letter.topic, letter.partition, letter.key, letter.value)
        return Plan([PlannedWrite(write, identity_in(letter.value))], False)
    try:
        found = _edited(letter, edits, partitions)
    except (NotEditableError, NoSuchPathError) as fault:
        return NotSendable(str(fault))
    if isinstance(found, Refusal):
        return NotSendable(REFUSED_AGAIN, (RejectedAgain(found.code, found.field, found.text),))
    return Plan([PlannedWrite(found, identity_in(found.value))], True)


def identity_in(value: bytes) -> Identity | None:
    """Return the identity of an event from its record; None for other records and for damaged ones."""
    for name in ("Accepted", "Resolved"):
        reader = avro.PrefixReader(name, "idempotency_key")
        if reader.reads(value):
            try:
                record = reader.read(value)
            except avro.UnreadableError:
                return None
            event_id = uuid.UUID(bytes=record["event_id"])
            return Identity(event_id, record["source"], record["idempotency_key"])
    return None


def _edited(
    letter: DeadLetter, edits: Sequence[Edit], partitions: Mapping[str, int]
) -> Write | Refusal:
    schema, record = _read(letter)
    before = dict(record)
    for edit in edits:
        _apply(edit, record, EDITABLE[letter.topic])
    refusal = _check(record, before["event"])
    if refusal is not None:
        return refusal
    key, partition = letter.key, letter.partition
    if any(record[field] != before[field] for field in NAMING):
        mark = PUBLIC_MARK if before["identity_key"].startswith(PUBLIC_MARK) else ""
        record["identity_key"] = mark + identity_key(
            record["client_profile_id"],
            record["user_id"],
            record["anonymous_id"],
            record["client_session_id"],
        )
    moved: int | None = partition
    if letter.topic == topics.ACCEPTED:
        key = dedup_key(record["source"], record["idempotency_key"])
        moved = gateway_partition(key, letter.topic, partitions)
    elif record["identity_key"] != before["identity_key"]:
        whose = record["identity_key"].removeprefix(PUBLIC_MARK)
        key = workspace_key(record["workspace"], whose) if whose else record["event_id"]
        moved = None
    return Write(letter.topic, moved, key, schema.encode(record))


def _read(letter: DeadLetter) -> tuple[avro.Schema, avro.AvroRecord]:
    try:
        schema, record = avro.read_as_written(letter.value)
    except (avro.UnknownSchemaError, avro.UnreadableError):
        raise NotEditableError(NOT_A_RECORD) from None
    if letter.topic not in EDITABLE or schema.name not in ("Accepted", "Resolved"):
        raise NotEditableError(f"only events can be edited, and this is a {schema.name}")
    return schema, record


def _apply(edit: Edit, record: avro.AvroRecord, editable: set[str]) -> None:
    field = edit.path[0]
    if field not in record:
        raise NoSuchPathError(f"there is no {shown(edit.path[:1])}")
    if field not in editable:
        can = ", ".join(sorted(editable))
        raise NotEditableError(
            f"{field} is already decided and cannot be edited; editable fields: {can}"
        )
    if field in DOCUMENTS and len(edit.path) > 1:
        record[field] = edit.apply(record[field].encode(), depth=1).decode()
        return
    if len(edit.path) > 1:
        raise NoSuchPathError(f"there is no {shown(edit.path)}: {field} holds a single value")
    record[str(field)] = _whole(str(field), edit)


def _whole(field: str, edit: Edit) -> Any:
    """Return the new value of a field in the field's type. `NotEditableError` if it does not fit."""
    if edit.value is None:
        if field in ("event", "occurred_at", "idempotency_key"):
            raise NotEditableError(f"{field} cannot be removed: every event must have one")
        return {"value": None, "properties": "{}", "context": "{}"}.get(field, "")
    if field in DOCUMENTS:
        if not (text := edit.json()).startswith(b"{"):
            raise NotEditableError(f"{field} must be a JSON object")
        return text.decode()
    if field in ("value", "occurred_at"):
        try:
            return msgspec.json.decode(edit.value, type=float if field == "value" else int)
        except msgspec.DecodeError:
            what = "a number" if field == "value" else "epoch milliseconds"
            raise NotEditableError(f"{field} must be {what}, not {edit.value}") from None
    return edit.text()


def _check(record: avro.AvroRecord, name_before: str) -> Refusal | None:
    """Return why the gateway would reject the edited event, or None. An unedited name is not checked again."""
    sent = SentEvent(
        record["event"] if record["event"] != name_before else IDENTIFY,
        user_id=record["user_id"],
        anonymous_id=record["anonymous_id"],
        profile_id=record["client_profile_id"],
        session_id=record["client_session_id"],
        idempotency_key=record["idempotency_key"],
        value=record["value"],
        occurred_at=record["occurred_at"],
        properties=Raw(record["properties"].encode()),
        context=Raw(record["context"].encode()),
    )
    raw = (record["properties"] + record["context"]).encode()
    event = validate(sent, raw, Shared(b"", raw), record["received_at"], ANY_NAME)
    return event if isinstance(event, Refusal) else None
