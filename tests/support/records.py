"""Records of every kind for tests of the sink and the warehouse, encoded as they come from Kafka."""

import json
from typing import Any

from tests.support.events import NOON, accepted
from weir.adapters import avro
from weir.erasure.model import ErasedPlace, ErasedRows, Erasure, ErasureState
from weir.erasure.topic import erasure_entries

MINUTE = 60_000
UUID_BYTES = bytes(range(16))


def encode(name: str, **fields: Any) -> bytes:
    return avro.schemas()[name].encode(fields)


def resolved(number: int, profile: str = "", session: str = "", **fields: Any) -> bytes:
    record = {**accepted(number, **fields), "profile_id": profile, "session_id": session}
    return encode("Resolved", **record)


def merge(from_profile: str, into_profile: str, refused: bool = False) -> bytes:
    return encode(
        "Merge",
        workspace="acme",
        from_profile=from_profile,
        into_profile=into_profile,
        refused=refused,
        detail="",
        merged_at=NOON,
        event_id=UUID_BYTES,
    )


def profile(key: str, profile_id: str, version: int = 1, **fields: Any) -> bytes:
    known = {
        "owner": "",
        "first_seen": NOON,
        "last_seen": NOON + MINUTE,
        "events": 1,
        "sessions": 1,
        "memory": b"",
        "traits": "{}",
        "traits_at": 0,
    }
    names = {"workspace": "acme", "identity_key": key, "profile_id": profile_id}
    return encode("Profile", **{**known, **names, "version": version, **fields})


def usage(outcome: str, events: int, position: int, stage: str = "dedup", **fields: Any) -> bytes:
    known = {
        "source": "shop",
        "minute": NOON,
        "bytes": 100 * events,
        "origin_topic": "events.accepted",
        "origin_partition": 0,
        "seconds": [{"second": 1, "events": events}],
        "topic_id": "",
        "first": position - events,
        "fingerprint": 0,
    }
    names = {"stage": stage, "outcome": outcome, "events": events, "position": position}
    return encode("UsageDelta", **{**known, **names, **fields})


def duplicate(number: int = 0) -> bytes:
    return encode(
        "Duplicate",
        event_id=number.to_bytes(16),
        first_event_id=UUID_BYTES,
        source="shop",
        idempotency_key="k",
        same_payload=True,
        received_at=NOON,
        first_received_at=NOON - 1,
    )


def rejected(number: int = 0) -> bytes:
    return encode(
        "Rejected",
        event_id=number.to_bytes(16),
        source="shop",
        received_at=NOON,
        door="events",
        code="name_missing",
        field="event",
        detail="no name",
        client_id="",
        ip="127.0.0.1",
        user_agent="",
        payload=b'{"\xff',
    )


def dead_letter(offset: int = 0, **fields: Any) -> bytes:
    known = {
        "origin_topic": "events.accepted",
        "origin_partition": 1,
        "origin_offset": offset,
        "key": b"\xff\x00",
        "value": b"\x00\xfe",
        "step": "dedup",
        "version": "1",
        "reason": "unreadable",
        "detail": "cut short",
        "source": "",
        "received_at": 0,
        "event_id": None,
        "died_at": NOON,
    }
    return encode("DeadLetter", **{**known, **fields})


def recovery() -> bytes:
    return encode(
        "Recovery",
        letter="events.accepted/1/0",
        kind="dead",
        step="dedup",
        source="shop",
        received_at=NOON,
        event_id=UUID_BYTES,
        edited=True,
        recovered_at=NOON + MINUTE,
    )


def source_usage(**of_quota: Any) -> bytes:
    """Of one quota, which is as in `of_quota`."""
    quota = {
        "name": "daily",
        "period": "day",
        "unit": "events",
        "limit": 10,
        "used": 11,
        "action": "reject",
        "exceeded": True,
        "resets_at": NOON,
        **of_quota,
    }
    window = {"period": "day", "starts_at": NOON, "outcome": "accepted", "events": 11, "bytes": 99}
    return encode(
        "SourceUsage",
        source="shop",
        updated_at=NOON,
        windows=[window],
        quotas=[quota],
        current_rate=1.5,
        peak_rate=3.0,
        peak_at=NOON,
        recent_seconds=[{"second": 1, "events": 2}],
    )


def erasure(state: ErasureState) -> bytes:
    made = Erasure(
        "0199c3a0-0000-7000-8000-000000000001",
        "acme",
        "" if state == "finished" else "user:ada",
        NOON,
        state=state,
        until=NOON,
        places=[ErasedPlace("table events", 3, NOON)],
        counts=[ErasedRows("events", "", "shop", NOON - NOON % MINUTE, 3)],
    )
    return erasure_entries(made)[0][1]


def properties(number: int, size: int = 0) -> str:
    return json.dumps({"price": number, "a": {"b": [number, "x"]}, "pad": "x" * size})
