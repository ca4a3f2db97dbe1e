"""Decide whether an event is the first occurrence of its idempotency key. Pure functions."""

from collections.abc import Sequence
from typing import NamedTuple

from weir.core.batch import Load, State

ID_BYTES = 16
IDS_BYTES = 2 * ID_BYTES
TIME_BYTES = 8
# Prefix of the state keys of repeats. A dedup key starts with the source, which is printable, so they never clash.
REPEAT = b"\1"


class RoutingFields(NamedTuple):
    """The fields of an accepted event that dedup reads."""

    key: bytes  # source and hash of the idempotency key
    ids: bytes  # event id and payload hash, as encoded in the record
    received_at: int  # epoch milliseconds
    source: str
    window_seconds: int
    next_key: bytes = b""  # key in `events.unique`; empty if the event has no identifier

    @property
    def event_id(self) -> bytes:
        return self.ids[:ID_BYTES]

    @property
    def payload_hash(self) -> bytes:
        return self.ids[ID_BYTES:]


class First(NamedTuple):
    """The state of a key: its first occurrence."""

    event_id: bytes
    payload_hash: bytes
    received_at: int


class Unique(NamedTuple):
    """Emit: the first occurrence of the key, or the first one after the window."""


class Repeat(NamedTuple):
    """Drop: the key was already seen within the window."""

    first: First

    def same_payload(self, arrival: RoutingFields) -> bool:
        return self.first.payload_hash == arrival.payload_hash


class Redelivered(NamedTuple):
    """Drop: this same event was already processed.

    Its producer wrote the record twice (a retry while a broker failed), or the group's offsets were reset.
    """


DedupOutcome = Unique | Repeat | Redelivered
UNIQUE, REREAD = Unique(), Redelivered()


def unpack_first(packed: bytes) -> First:
    return First(
        packed[:ID_BYTES],
        packed[ID_BYTES:IDS_BYTES],
        int.from_bytes(packed[IDS_BYTES:]),
    )


def repeat_key(event_id: bytes) -> bytes:
    """Return the state key that marks an event as processed but not the current first occurrence of its key."""
    return REPEAT + event_id


def decide(arrivals: Sequence[RoutingFields], load: Load) -> tuple[list[DedupOutcome], State]:
    """Return one outcome per arrival, in order, and the state entries to write.

    An event is a repeat if it arrives at most `window_seconds` (inclusive) after the `received_at` of its
    key's first occurrence; later it counts as new. Gateways' clocks differ, so an event with an earlier
    `received_at` than the first occurrence is a repeat too. Every processed event has one state entry: the
    first occurrence under its key, every other event under its event id. So a second copy of any record is
    detected. An entry ends with the time at which its event was received; the store expires entries by it.
    """
    seen = load([arrival[0] for arrival in arrivals])
    fresh: State = {}
    outcomes: list[DedupOutcome] = []
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
    outcomes: list[DedupOutcome],
    repeats: Sequence[int],
    fresh: State,
    load: Load,
) -> None:
    """Change repeats that were already processed to `REREAD`, and add the others to the state."""
    keys = [repeat_key(arrivals[at].event_id) for at in repeats]
    known = load(keys)
    for at, key in zip(repeats, keys, strict=True):
        if key in known or key in fresh:
            outcomes[at] = REREAD
        else:
            fresh[key] = arrivals[at].received_at.to_bytes(TIME_BYTES)
