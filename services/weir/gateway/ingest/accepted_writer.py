"""Writes `Accepted` and `Rejected` records; `Accepted` faster than a general Avro writer can.

An Avro datum is its fields in order (https://avro.apache.org/docs/1.12.0/specification/#binary_encode_record),
so what a request's events share is encoded once. A property test holds the bytes against fastavro's.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache

from msgspec import Struct

from weir.adapters import avro
from weir.core.identifiers import PUBLIC_MARK, dedup_prefix, identity_key
from weir.core.registry import Source
from weir.gateway.ingest.validation import Event

ABSENT = b"\x00"  # an empty string, null and false alike
TRUE = b"\x01"
DOUBLE = b"\x02"  # the second branch of ["null", "double"]
_double = struct.Struct("<d").pack
_header = avro.schemas()["Accepted"].header


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last byte are marked "goes on"."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def long(number: int) -> bytes:
    """Avro's int and long: zigzag, so that small negative numbers are short too."""
    return varint((number << 1) ^ (number >> 63))


LENGTHS = [long(n) for n in range(4_096)]
# The lowest 14 bits of a number that has more: two bytes, both marked "goes on".
LOW_BITS = [bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(1 << 14)]


_high_bits = lru_cache(maxsize=4_096)(varint)


def moment(epoch_ms: int) -> bytes:
    """As `long`, quickly: times of one request share all but their lowest bits."""
    zigzag = (epoch_ms << 1) ^ (epoch_ms >> 63)
    if zigzag < 1 << 14:
        return varint(zigzag)
    return LOW_BITS[zigzag & 0x3FFF] + _high_bits(zigzag >> 14)


def length(size: int) -> bytes:
    return LENGTHS[size] if size < 4_096 else long(size)


def string(text: str) -> bytes:
    encoded = text.encode()
    return length(len(encoded)) + encoded


def optional(text: str) -> bytes:
    return string(text) if text else ABSENT


@dataclass(frozen=True)
class SourceFields:
    """What all events of a source share, encoded once a change of the registry."""

    source: str
    key_prefix: bytes  # of its dedup keys
    encoded: bytes
    window: bytes  # how long its keys are remembered

    @classmethod
    def of(cls, source: Source) -> "SourceFields":
        encoded = string(source.id) + string(source.workspace)
        window = long(source.dedup_window_seconds)
        return cls(source.id, dedup_prefix(source.id), encoded, window)


class Client(Struct, frozen=True):
    """Who sent a request, and by which door."""

    door: str
    ip: str
    user_agent: str
    has_profile: bool = True
    over_quota: bool = False
    has_session: bool | None = None  # None: where there is a profile
    saved: bool = True
    wants_receipt: bool = False
    public: bool = False  # with a public key, or with none: identity believes it less


@lru_cache(maxsize=4_096)
def _client_fields(client: Client) -> bytes:
    """What the events of one client have in common: most clients come again."""
    has_session = client.has_profile if client.has_session is None else client.has_session
    flags = (
        client.has_profile,
        has_session,
        client.saved,
        client.wants_receipt,
        client.over_quota,
    )
    return b"".join(
        (
            *(TRUE if flag else ABSENT for flag in flags),
            optional(client.door),
            optional(client.ip),
            optional(client.user_agent),
        )
    )


class AcceptedWriter:
    """Encodes the accepted events of one request; what they share is encoded once."""

    __slots__ = ("_after", "_before", "_mark", "_now")

    def __init__(
        self,
        source: SourceFields,
        received_at: int,
        client: Client,
        window_seconds: int | None = None,
    ) -> None:
        """`window_seconds`: how long keys are remembered; None: as the source has it."""
        self._now = moment(received_at)
        window = source.window if window_seconds is None else long(window_seconds)
        self._before = self._now + source.encoded + window
        self._after = _client_fields(client)
        self._mark = PUBLIC_MARK if client.public else ""

    def encode(self, event_id: bytes, digest: bytes, key: bytes, event: Event) -> bytes:
        """The record of a valid event; `key` is its idempotency key, at most 1,023 bytes."""
        name = event.name.encode()
        user, anonymous = event.user_id, event.anonymous_id
        profile, session = event.profile_id, event.session_id
        occurred, value = event.occurred_at, event.value
        context, properties = event.context, event.properties
        return b"".join(
            (
                _header,
                event_id,
                digest,
                self._before,
                optional(self._mark + identity_key(profile, user, anonymous, session)),
                length(len(key)),
                key,
                self._now if occurred is None else moment(occurred),
                length(len(name)),
                name,
                string(user) if user else ABSENT,
                string(anonymous) if anonymous else ABSENT,
                string(profile) if profile else ABSENT,
                string(session) if session else ABSENT,
                self._after,
                ABSENT if value is None else DOUBLE + _double(value),
                length(len(context)),
                context,
                length(len(properties)),
                properties,
            )
        )
