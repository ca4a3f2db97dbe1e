"""Accepted events for tests: plain values with sane defaults, encoded as the gateway encodes them."""

import hashlib
import uuid
from typing import Any

import msgspec

from weir.adapters import avro
from weir.core.batch import Batch, Output
from weir.core.identifiers import dedup_key, identity_key, payload_hash
from weir.identity.messages import IdentityEvent

NOON = 1_760_011_200_000  # 2025-10-09T12:00:00Z


def accepted(number: int = 0, **fields: Any) -> avro.AvroRecord:
    """One accepted event; `number` makes its id and, unless given, its idempotency key."""
    event_id = hashlib.blake2b(str(number).encode(), digest_size=16).digest()
    record: avro.AvroRecord = {
        "event_id": event_id,
        "received_at": NOON,
        "source": "shop",
        "workspace": "acme",
        "dedup_window_seconds": 86_400,
        "idempotency_key": str(uuid.UUID(bytes=event_id)),
        "occurred_at": NOON,
        "event": "page_view",
        "user_id": "",
        "anonymous_id": "",
        "client_profile_id": "",
        "client_session_id": "",
        "wants_profile": True,
        "wants_session": True,
        "saved": True,
        "wants_receipt": False,
        "over_quota": False,
        "door": "events",
        "ip": "127.0.0.1",
        "user_agent": "",
        "value": None,
        "context": "{}",
        "properties": "{}",
        **fields,
    }
    record.setdefault("payload_hash", payload_hash(record["properties"].encode()))
    record.setdefault(
        "identity_key",
        identity_key(
            record["client_profile_id"],
            record["user_id"],
            record["anonymous_id"],
            record["client_session_id"],
        ),
    )
    return record


def accepted_output(record: avro.AvroRecord) -> Output:
    """The record of `events.accepted` that the gateway would write."""
    key = dedup_key(record["source"], record["idempotency_key"])
    return Output(key, avro.schemas()["Accepted"].encode(record))


def batch_of(outputs: list[Output], topic: str = "events.accepted", partition: int = 0) -> Batch:
    return Batch(
        topic,
        partition,
        list(range(len(outputs))),
        [NOON] * len(outputs),
        [output.key for output in outputs],
        [output.value for output in outputs],
    )


def identify(at: int, text: str, number: int = 0) -> IdentityEvent:
    """An `$identify` of the user 7, with these traits, as identity reads it."""
    traits = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return IdentityEvent(
        "u:7",
        number.to_bytes(16),
        "acme",
        "shop",
        "$identify",
        at,
        at,
        "7",
        "",
        "",
        "",
        wants_profile=True,
        wants_session=True,
        saved=True,
        traits=traits,
    )
