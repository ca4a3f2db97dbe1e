"""Markers of erased identifiers, kept as long as events from before the erasure may still arrive.

All markers of a partition are one value of its state. Usually there are none; then they cost one look-up per
batch. A marker stores the hash of the identifier, which reveals nothing to a reader who does not know the
identifier already.
"""

import struct
from collections.abc import Iterable

from weir.adapters import avro
from weir.core.batch import Load
from weir.core.identifiers import content_digest

MARKERS_KEY = b"\0erased"  # no workspace name begins with NUL
_ENTRY = struct.Struct(">16sqq")
_schema = avro.schemas()["ErasedMarkers"]


class Markers:
    """The erasure markers of one partition."""

    def __init__(self, value: bytes | None = None) -> None:
        self._until: dict[bytes, tuple[int, int]] = {}  # hash -> (until, kept until)
        if value is not None:
            packed = avro.decode_any(value)[1]["markers"]
            self._until = {digest: times for digest, *times in _ENTRY.iter_unpack(packed)}  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self._until)

    def of(self, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return {key: until} for the marked keys: records received up to then belong to an erased person."""
        if not self._until:
            return {}
        found = {key: self._until.get(content_digest(key)) for key in keys}
        return {key: times[0] for key, times in found.items() if times is not None}

    def set(self, key: bytes, until: int, kept_until: int) -> None:
        before, kept_before = self._until.get(content_digest(key), (0, 0))
        self._until[content_digest(key)] = (max(until, before), max(kept_until, kept_before))

    def drop_outdated(self, now: int) -> bool:
        """Remove markers that no event can match any more, and return whether there were any."""
        outdated = [digest for digest, (_, kept) in self._until.items() if kept < now]
        for digest in outdated:
            del self._until[digest]
        return bool(outdated)

    def encode(self) -> bytes:
        packed = b"".join(_ENTRY.pack(digest, *times) for digest, times in self._until.items())
        return _schema.encode({"markers": packed})


def joined(values: Iterable[bytes]) -> bytes:
    """Join the encoded markers of several partitions into one value. Each key is in at most one of them."""
    return _schema.encode({"markers": b"".join(avro.decode_any(v)[1]["markers"] for v in values)})


class AllMarkers:
    """The markers of every partition as the last batches left them; `PersonCache` says why that is safe."""

    def __init__(self) -> None:
        self._by_partition: dict[int, Markers] = {}

    def of(self, partition: int, load: Load) -> Markers:
        markers = self._by_partition.get(partition)
        if markers is None:
            value = load([MARKERS_KEY]).get(MARKERS_KEY)
            markers = self._by_partition[partition] = Markers(value)
        return markers

    def forget(self) -> None:
        self._by_partition.clear()
