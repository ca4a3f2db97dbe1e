"""Parse the times that Segment's clients send: ISO 8601, usually its subset RFC 3339. Pure."""

import re
from datetime import UTC, datetime

import msgspec
from msgspec import Raw

from weir.gateway.ingest import event_times
from weir.gateway.ingest.event_times import AHEAD_MS, EARLIEST_MS, EPOCH, MILLISECOND, unmistakable

Time = datetime | int | float | None
TIMES = ("timestamp", "originalTimestamp", "sentAt")
FIRST_CLOCK_MS = 946_684_800_000  # the year 2000: a clock before it was never set

_decode_text = msgspec.json.Decoder(str | int | float | None).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
_iso_8601 = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[Tt ](\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)? ?([Zz]|[+-]\d{2}(?::?\d{2})?)?)?",
    re.ASCII,
).fullmatch


def epoch_ms(at: datetime | int | float) -> int:
    """Return epoch milliseconds; a time without an offset is in UTC."""
    if isinstance(at, datetime):
        return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - EPOCH) // MILLISECOND
    return event_times.epoch_ms(at)


def occurred_at(
    timestamp: Time, original: Time, sent_at: int | None, received_at: int
) -> int | None:
    """Return `receivedAt - (sentAt - timestamp)`: a client's clock may be wrong, but its intervals are right.

    A call that also has an `originalTimestamp` is corrected already. An impossible `sentAt` corrects nothing: one
    before 2000, or one that moves the call before 1900 or more than an hour into the future.
    """
    given = original if timestamp is None else timestamp
    if given is None:
        return None
    at = epoch_ms(given)
    if sent_at is None or sent_at < FIRST_CLOCK_MS:
        return at
    if original is not None and timestamp is not None:
        return at
    corrected = at + received_at - sent_at
    return corrected if EARLIEST_MS <= corrected <= received_at + AHEAD_MS else at


def plain(raw: bytes) -> bytes:
    """Return a call with its ISO 8601 times as epoch milliseconds (early ones as RFC 3339), so that it decodes.

    An invalid time stays, to be rejected later; an invalid `sentAt` is removed, because it corrects nothing.
    """
    members: dict[str, object] = {**_decode_members(raw)}
    for name in TIMES:
        value = members.get(name)
        if not isinstance(value, Raw):
            continue
        at = time_of(bytes(value))
        if at is not None:
            members[name] = unmistakable(at)
        elif name == "sentAt":
            del members[name]
    return _encode(members)


def time_of(value: bytes) -> int | None:
    """Return epoch milliseconds of a JSON value: an ISO 8601 time or a number; None: it is no time."""
    try:
        text = _decode_text(value) if value else None
    except msgspec.DecodeError:
        return None
    if not isinstance(text, str):
        return None if text is None or abs(text) >= 1e18 else event_times.epoch_ms(text)
    found = _iso_8601(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    try:  # a leap second counts as the second before it
        at = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    fraction = (found[7] or "").ljust(3, "0")[:3]
    return epoch_ms(at) + int(fraction) - _offset_ms(found[8] or "Z")


def _offset_ms(offset: str) -> int:
    if offset in "Zz":
        return 0
    minutes = int(offset[1:3]) * 60 + int(offset[3:].lstrip(":") or 0)
    return (-minutes if offset[0] == "-" else minutes) * 60_000
