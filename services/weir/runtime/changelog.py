"""Two kinds of changelog: one record per key (compacted), or many entries per record (append-only)."""

from collections.abc import Callable, Mapping
from itertools import islice

from weir.core.batch import Changes, Output

# 5,000 entries of at most about 300 bytes stay well below the broker's record limit.
PACKED_ENTRIES = 5_000


class KeyedChangelog:
    """One record per changed key, in a compacted topic that may also hold records of other schemas."""

    def __init__(self, topic: str, is_state: Callable[[bytes], bool]) -> None:
        """`is_state`: checks whether a record's value is state, in the format of any version of Weir."""
        self.topic = topic
        self._is_state = is_state

    def encode(self, changes: Changes) -> list[Output]:
        return [Output(key, value or b"") for key, value in changes.items()]

    def decode(self, key: bytes, value: bytes | None) -> Mapping[bytes, bytes | None]:
        if value is not None and not self._is_state(value):
            return {}
        return {key: value}


class PackedChangelog:
    """Thousands of entries per record, in a topic with retention and without compaction.

    For state whose keys are written once and expire: one record per entry would cost more than the
    decision itself. Layout: entries of (2-byte key length, 2-byte value length, key, value).
    """

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def encode(self, changes: Changes) -> list[Output]:
        entries = iter(changes.items())
        outputs = []
        while chunk := list(islice(entries, PACKED_ENTRIES)):
            parts: list[bytes] = []
            for key, entry in chunk:
                value = entry or b""
                parts += (len(key).to_bytes(2), len(value).to_bytes(2), key, value)
            outputs.append(Output(b"", b"".join(parts)))
        return outputs

    def decode(self, key: bytes, value: bytes | None) -> Mapping[bytes, bytes | None]:
        packed = value or b""
        changes: dict[bytes, bytes | None] = {}
        at = 0
        while at < len(packed):
            key_end = at + 4 + int.from_bytes(packed[at : at + 2])
            value_end = key_end + int.from_bytes(packed[at + 2 : at + 4])
            changes[packed[at + 4 : key_end]] = packed[key_end:value_end]
            at = value_end
        return changes
