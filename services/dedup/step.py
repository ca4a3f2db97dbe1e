"""Dedup's decision: is this the first occurrence of its idempotency key? Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

ID_BYTES = 16
IDS_BYTES = 2 * ID_BYTES


class Arrival(NamedTuple):
    """What dedup reads of an accepted event."""

    key: bytes  # source and hash of the idempotency key
    ids: bytes  # event id and payload hash, as they stand in the record
    received_at: int  # epoch milliseconds
    source: str
    window_seconds: int
    next_key: bytes = b""  # of `events.unique`; empty: the event names nobody

    @property
    def event_id(self) -> bytes:
        return self.ids[:ID_BYTES]

    @property
    def payload_hash(self) -> bytes:
        return self.ids[ID_BYTES:]


class First(NamedTuple):
    """What is remembered of a key's first occurrence."""

    event_id: bytes
    payload_hash: bytes
    received_at: int


class Unique(NamedTuple):
    """Emit: the first occurrence, or the first after the window."""


class Repeat(NamedTuple):
    """Drop: the key was seen within the window."""

    first: First

    def same_payload(self, arrival: Arrival) -> bool:
        return self.first.payload_hash == arrival.payload_hash


class Reread(NamedTuple):
    """Drop: this very event was settled before, and is read again (its group's offsets were set back)."""


Outcome = Unique | Repeat | Reread
UNIQUE, REREAD = Unique(), Reread()


def unpack_first(packed: bytes) -> First:
    return First(
        packed[:ID_BYTES],
        packed[ID_BYTES:IDS_BYTES],
        int.from_bytes(packed[IDS_BYTES:]),
    )


def decide(
    arrivals: Sequence[Arrival], seen: Mapping[bytes, bytes]
) -> tuple[list[Outcome], dict[bytes, bytes]]:
    """One outcome an arrival, in order, and what is to be remembered from now on.

    `seen` holds what was remembered of the arrivals' keys. A key is a repeat from its first
    occurrence's `received_at` until `window_seconds` later, both inclusive; then it counts as new.
    Clocks of gateways differ, so an earlier `received_at` than the first one's is a repeat too.
    """
    fresh: dict[bytes, bytes] = {}
    outcomes: list[Outcome] = []
    for key, ids, received_at, _, window, _ in arrivals:
        packed = fresh.get(key) or seen.get(key)
        if packed is not None:
            first = unpack_first(packed)
            if ids.startswith(first.event_id):
                outcomes.append(REREAD)
                continue
            if received_at - first.received_at <= window * 1000:
                outcomes.append(Repeat(first))
                continue
        fresh[key] = ids + received_at.to_bytes(8)
        outcomes.append(UNIQUE)
    return outcomes, fresh
