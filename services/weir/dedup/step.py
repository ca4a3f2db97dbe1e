"""Dedup's decision: is this the first occurrence of its idempotency key? Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from weir.core.batch import Load, State

ID_BYTES = 16
IDS_BYTES = 2 * ID_BYTES
TIME_BYTES = 8
# Starts the state keys of repeats; an event's own key starts with its source, which is printable.
REPEAT = b"\1"


class RoutingFields(NamedTuple):
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

    def same_payload(self, arrival: RoutingFields) -> bool:
        return self.first.payload_hash == arrival.payload_hash


class Redelivered(NamedTuple):
    """Drop: this very event was settled before.

    Its producer wrote the record twice (a retry while a broker died), or the group's offsets were set back.
    """


Outcome = Unique | Repeat | Redelivered
UNIQUE, REREAD = Unique(), Redelivered()


def unpack_first(packed: bytes) -> First:
    return First(
        packed[:ID_BYTES],
        packed[ID_BYTES:IDS_BYTES],
        int.from_bytes(packed[IDS_BYTES:]),
    )


def repeat_key(event_id: bytes) -> bytes:
    """Return the state key that says: this event was settled, and is not the first of its key."""
    return REPEAT + event_id


def decide(arrivals: Sequence[RoutingFields], load: Load) -> tuple[list[Outcome], State]:
    """Return one outcome an arrival, in order, and the state entries to write.

    A key is a repeat from its first occurrence's `received_at` until `window_seconds` later, both
    inclusive; then it counts as new. Clocks of gateways differ, so an earlier `received_at` than the
    first one's is a repeat too. Every settled event has one entry: the first occurrence under its
    key, every other one under its event id. So a second copy of a record is found, whatever it is.
    An entry ends with the time at which its event was received: the store forgets by it.
    """
    seen = load([arrival[0] for arrival in arrivals])
    fresh: State = {}
    outcomes: list[Outcome] = []
    repeats: list[int] = []
    for key, ids, received_at, _, window, _ in arrivals:
        packed = fresh.get(key) or seen.get(key)
        if packed is not None:
            first = unpack_first(packed)
            if ids.startswith(first.event_id):
                outcomes.append(REREAD)
                continue
            if received_at - first.received_at <= window * 1000:
                repeats.append(len(outcomes))
                outcomes.append(Repeat(first))
                continue
            fresh[repeat_key(first.event_id)] = packed[IDS_BYTES:]
        fresh[key] = ids + received_at.to_bytes(TIME_BYTES)
        outcomes.append(UNIQUE)
    if repeats:
        _find_second_copies(arrivals, outcomes, repeats, fresh, load)
    return outcomes, fresh


def _find_second_copies(
    arrivals: Sequence[RoutingFields],
    outcomes: list[Outcome],
    repeats: Sequence[int],
    fresh: State,
    load: Load,
) -> None:
    """Turn repeats that were settled before into `REREAD`, and remember the others."""
    keys = [repeat_key(arrivals[at].event_id) for at in repeats]
    known = load(keys)
    for at, key in zip(repeats, keys, strict=True):
        if key in known or key in fresh:
            outcomes[at] = REREAD
        else:
            fresh[key] = arrivals[at].received_at.to_bytes(TIME_BYTES)
