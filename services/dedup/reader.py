"""Reads what dedup needs of an accepted event without decoding it, where the bytes allow.

Behind the ids, an accepted event's fields up to the identity key are the same for all events of one
source but for `received_at`. So the bytes of (source, workspace, window) are learned once a source,
through the schema, and recognised from then on; whatever is not recognised is read through the schema.
"""

from typing import NamedTuple

from services.core.identifiers import SEPARATOR
from services.edge import avro

IDS_END = avro.HEADER_BYTES + 32  # event_id and payload_hash, 16 bytes each
TIME_BYTES = 6  # a zigzag varint of epoch milliseconds from 2004 to 2039
POLICIES_KEPT = 10_000


class Routing(NamedTuple):
    """The leading fields of an accepted event, as dedup uses them."""

    event_id: bytes
    payload_hash: bytes
    received_at: int
    source: str
    window_seconds: int
    next_key: bytes  # of `events.unique`; empty: the event names nobody


class Policy(NamedTuple):
    """What is the same for all events of a source, until its registry entry changes."""

    encoded: bytes  # source, workspace and window, as they stand in the record
    end: int
    source: str
    window_seconds: int
    key_prefix: bytes


class RoutingReader:
    """Equal to reading the record through its schema, for every input; quicker for the usual one."""

    def __init__(self) -> None:
        self._reader = avro.PrefixReader("Accepted", "idempotency_key")
        self._policies: dict[bytes, Policy] = {}

    def read(self, key: bytes, value: bytes) -> Routing:
        """`avro.UnknownSchemaError`, `avro.UnreadableError` as the schema's reader."""
        policy = self._policies.get(key[:-16])
        if policy is not None and value.startswith(policy.encoded, IDS_END + TIME_BYTES):
            at = policy.end
            length = value[at] if at < len(value) else 0x80
            end = at + 1 + (length >> 1)
            time = int.from_bytes(value[IDS_END : IDS_END + TIME_BYTES], "little")
            if (
                length & 0x81 == 0  # a length below 64: one byte
                and end < len(value)
                and time & 0x808080808080 == 0x008080808080  # five continued bytes, one last
                and self._reader.reads(value)
            ):
                identity = value[at + 1 : end]
                return Routing(
                    value[avro.HEADER_BYTES : avro.HEADER_BYTES + 16],
                    value[avro.HEADER_BYTES + 16 : IDS_END],
                    _unzigzag(time),
                    policy.source,
                    policy.window_seconds,
                    policy.key_prefix + identity if identity else b"",
                )
        return self._learn(key, value)

    def whole(self, value: bytes) -> avro.Record:
        return self._reader.read(value)

    def _learn(self, key: bytes, value: bytes) -> Routing:
        record = self._reader.read(value)
        source, workspace = record["source"].encode(), record["workspace"].encode()
        encoded = b"".join(
            (
                avro.string_length(source),
                source,
                avro.string_length(workspace),
                workspace,
                avro.varint(record["dedup_window_seconds"] << 1),
            )
        )
        prefix = workspace + SEPARATOR.encode()
        if len(self._policies) >= POLICIES_KEPT:
            self._policies.clear()
        self._policies[key[:-16]] = Policy(
            encoded,
            IDS_END + TIME_BYTES + len(encoded),
            record["source"],
            record["dedup_window_seconds"],
            prefix,
        )
        identity = record["identity_key"].encode()
        return Routing(
            record["event_id"],
            record["payload_hash"],
            record["received_at"],
            record["source"],
            record["dedup_window_seconds"],
            prefix + identity if identity else b"",
        )


def _unzigzag(time: int) -> int:
    """Six little-endian groups of seven bits, zigzag, positive."""
    number = (
        time & 0x7F
        | (time >> 1) & 0x3F80
        | (time >> 2) & 0x1FC000
        | (time >> 3) & 0xFE00000
        | (time >> 4) & 0x7F0000000
        | (time >> 5) & 0x3F800000000
    )
    return number >> 1
