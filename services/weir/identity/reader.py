"""Read the fields that identity needs from a record, mostly without Avro decoding.

An accepted event's leading fields are: ids (32 bytes fixed), received_at, source, workspace, dedup window,
identity key, idempotency key, occurred_at, five strings and four booleans. Parsing them here takes a third of the
time of the schema's reader, which builds a dict of all fields and decodes strings that are only skipped here. The
bytes of source, workspace and window are learned once per source, through the schema.
"""

from itertools import product

import msgspec

from weir.adapters import avro
from weir.core.identifiers import PUBLIC_MARK
from weir.identity.messages import IDENTIFY, Erase, IdentityEvent, Item, Link

HEADER_BYTES = avro.HEADER_BYTES
ID_END = HEADER_BYTES + 16
IDS_END = HEADER_BYTES + 32
TIME_END = IDS_END + avro.TIME_BYTES
PUBLIC = ord(PUBLIC_MARK)
PREFIXES_KEPT = 10_000

# (encoded bytes of source, workspace and window; source; workspace; the index at which the bytes end)
IdentityPrefix = tuple[bytes, str, str, int]
UNKNOWN: IdentityPrefix = (b"\0no source starts like this", "", "", 0)

# wants_profile, wants_session, saved, wants_receipt. After a truncated string these bytes are missing.
FLAGS = {bytes(flags): tuple(flag == 1 for flag in flags) for flags in product((0, 1), repeat=4)}

_traits_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class ItemReader:
    """A reader with the same results as the schema's reader, also for records truncated anywhere; usually faster."""

    def __init__(self) -> None:
        self._headers = avro.headers_of("Accepted", "wants_receipt")
        self._events = avro.PrefixReader("Accepted", "wants_receipt")
        self._properties = avro.PrefixReader("Accepted", "properties")
        self._links = avro.PrefixReader("Link", "event_id")
        self._erases = avro.PrefixReader("Erase", "kept_until")
        self._policies: dict[bytes, IdentityPrefix] = {}
        self._bases = avro.TimeBases()

    def read(self, key: bytes, value: bytes) -> Item:
        """Read a record. `avro.UnknownSchemaError`, `avro.UnreadableError`, or `msgspec.DecodeError` (bad traits)."""
        if value[:HEADER_BYTES] not in self._headers:
            if self._links.reads(value):
                return self._link(value)
            if self._erases.reads(value):
                return self._erase(value)
        try:
            event = self._quick(key, value)
        except (
            IndexError,
            UnicodeDecodeError,
        ):  # truncated or damaged: the schema's reader gives the precise error
            event = None
        if event is None:
            event = self._thorough(key, value)
        if event.name == IDENTIFY:
            event.traits = _traits_of(self._properties.read(value)["properties"])
        return event

    def leading(self, key: bytes, value: bytes) -> IdentityEvent | None:
        """Return the leading fields of an event that `read` could not read; None if they are unreadable too."""
        try:
            return self._thorough(key, value)
        except (avro.UnknownSchemaError, avro.UnreadableError):
            return None

    def _quick(self, key: bytes, value: bytes) -> IdentityEvent | None:
        """Return the event; None if its bytes are not of the usual form.

        IndexError or UnicodeDecodeError if the record may be truncated or damaged. If the first length byte of a
        string has a bit of 0x81, the string is longer than 63 bytes or invalid.
        """
        start = value[TIME_END : TIME_END + 1 + (value[TIME_END] >> 1)]
        encoded, source, workspace, at = self._policies.get(start, UNKNOWN)
        if not value.startswith(encoded, TIME_END) or value[:HEADER_BYTES] not in self._headers:
            return None
        received_at = self._time(value, IDS_END)
        identity = value[at]
        public = identity > 0 and value[at + 1] == PUBLIC
        at += 1 + (identity >> 1)
        idempotency = value[at]
        at += 1 + (idempotency >> 1)
        occurred_at = self._time(value, at)
        if (identity | idempotency) & 0x81 or received_at is None or occurred_at is None:
            return None
        at += avro.TIME_BYTES
        texts = []
        for _ in range(5):
            length = value[at]
            if length & 0x81:
                return None
            end = at + 1 + (length >> 1)
            texts.append(value[at + 1 : end].decode() if length else "")
            at = end
        flags = FLAGS.get(value[at : at + 4])
        if flags is None:
            return None
        name, user_id, anonymous_id, profile_id, session_id = texts
        wants_profile, wants_session, saved, wants_receipt = flags
        return IdentityEvent(
            key.partition(b"\0")[2].decode() if identity > 2 * public else "",
            value[HEADER_BYTES:ID_END],
            workspace,
            source,
            name,
            occurred_at,
            received_at,
            user_id,
            anonymous_id,
            profile_id,
            session_id,
            wants_profile,
            wants_session,
            saved,
            wants_receipt,
            public=public,
        )

    def _time(self, value: bytes, at: int) -> int | None:
        low, high = value[at], value[at + 1]
        base = self._bases[value[at + 2 : at + avro.TIME_BYTES]]
        if low & 0x81 != 0x80 or not high & 0x80 or base < 0:
            return None
        return base + ((low & 0x7F) >> 1) + ((high & 0x7F) << 6)

    def _thorough(self, key: bytes, value: bytes) -> IdentityEvent:
        record = self._events.read(value)
        self._learn(record)
        identity = record["identity_key"]
        return IdentityEvent(
            # the key, not the field, names the deciding identifier: a forwarded event has another key
            key.partition(b"\0")[2].decode() if identity.removeprefix(PUBLIC_MARK) else "",
            record["event_id"],
            record["workspace"],
            record["source"],
            record["event"],
            record["occurred_at"],
            record["received_at"],
            record["user_id"],
            record["anonymous_id"],
            record["client_profile_id"],
            record["client_session_id"],
            record["wants_profile"],
            record["wants_session"],
            record["saved"],
            record["wants_receipt"],
            public=identity.startswith(PUBLIC_MARK),
        )

    def _learn(self, record: avro.AvroRecord) -> None:
        source, workspace = record["source"].encode(), record["workspace"].encode()
        start = avro.string_length(source) + source
        window = avro.long(record["dedup_window_seconds"])
        encoded = b"".join((start, avro.string_length(workspace), workspace, window))
        if len(self._policies) >= PREFIXES_KEPT:
            self._policies.clear()
        end = TIME_END + len(encoded)
        self._policies[start] = (encoded, record["source"], record["workspace"], end)

    def _link(self, value: bytes) -> Link:
        link = avro.read_whole(value)  # also a link of a version with fewer fields
        return Link(
            link["identity_key"],
            link["workspace"],
            link["profile_id"],
            link["owner"],
            link["source"],
            link["received_at"],
            link["event_id"],
            link["occurred_at"] or link["received_at"],
            link["public"],
        )

    def _erase(self, value: bytes) -> Erase:
        erase = self._erases.read(value)
        return Erase(
            erase["identity_key"],
            erase["workspace"],
            erase["names"],
            erase["until"],
            erase["kept_until"],
        )
