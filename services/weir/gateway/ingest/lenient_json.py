"""Split a body into events even if one event is invalid JSON, so that only that event is rejected. Pure.

This covers half a surrogate pair, as truncating an emoji leaves it, and NaN and the infinities, as Python's
`json` writes them. It is only for bodies that do not decode.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

import msgspec

from weir.gateway.http.error_codes import Refusal

T = TypeVar("T")

NOT_NUMBERS = "contains NaN or an infinity, which is not valid JSON"
# Replaced by numbers that nobody writes in this form, so that no masked event equals another event.
_NAN = (b"NaN", b"0E7")
_INFINITY = (b"Infinity", b"0E-00007")

MAX_SEARCHED_BYTES = 100 * 1024  # an event's size limit: longer inputs are not searched
MAX_PATH = 255

_half = re.compile("[\ud800-\udfff]").search  # Python's `json` joins complete pairs
# Matches escaped backslashes and complete pairs first, so that the group matches only lone halves.
_escapes = re.compile(
    rb"\\(?:\\|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2}))"
).finditer
_escaped = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}").sub
# Matches strings, and text between them without `N` or `I`. A string without a closing quote extends to the
# end of the body, so that each byte is examined once.
_strings = re.compile(rb'((?:"[^"\\]*+(?:\\.[^"\\]*+)*+"?+[^"NI]*+)++)', re.DOTALL).split


class Decoded(NamedTuple, Generic[T]):
    """The result of decoding a body, or its masked form if the body itself does not decode."""

    found: T
    body: bytes
    decoded_bytes: bytes  # the bytes that were decoded: the body, or its masked form
    fault: str  # msgspec's error for the body itself; empty: it decoded

    def own(self, events: Iterable[bytes | msgspec.Raw]) -> list[bytes]:
        """Return the original bytes of decoded events, which must come in the body's order."""
        raws = [bytes(event) for event in events]
        return unmasked(raws, self.decoded_bytes, self.body) if self.fault else raws


def decoded(body: bytes, decode: Callable[[bytes], T]) -> Decoded[T]:
    """Decode a body even if events have half a surrogate pair, NaN or an infinity. Else raise as `decode` does."""
    try:
        return Decoded(decode(body), body, body, "")
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as fault:
        masked_body = masked(body)
        if masked_body == body:
            raise
        return Decoded(decode(masked_body), body, masked_body, str(fault))


def masked(body: bytes) -> bytes:
    """Return the body with surrogate escapes, NaN and infinities replaced by JSON of the same length.

    The result is only for splitting a body into its events.
    """
    escaped = _escaped(rb"\\ufffd", body)
    if not _may_have_not_numbers(escaped):
        return escaped
    parts = _strings(escaped)
    between = b'"'.join(parts[::2])  # the text between strings has no quotes
    parts[::2] = between.replace(*_NAN).replace(*_INFINITY).split(b'"')
    return b"".join(parts)


def unmasked(events: Iterable[bytes], masked_body: bytes, body: bytes) -> list[bytes]:
    """Return the original bytes of the events of a masked body, which must come in its order."""
    found = []
    at = 0
    for event in events:
        at = masked_body.index(event, at)
        found.append(body[at : at + len(event)])
        at += len(event)
    return found


def is_outside(events: Iterable[bytes], body: bytes) -> bool:
    """Check whether masking changes the body outside of its events; `events` are their original bytes."""
    return _masked_bits(body) != sum(map(_masked_bits, events))


def has_not_numbers(raw: bytes) -> bool:
    """Check whether `raw` contains NaN or an infinity outside of strings."""
    if not _may_have_not_numbers(raw):
        return False
    between = b'"'.join(_strings(raw)[::2])
    return _may_have_not_numbers(between)


def not_json(raw: bytes, fault: Exception) -> Refusal:
    """Return the refusal of an event that does not decode."""
    if has_not_numbers(raw):
        return Refusal("invalid_json", "", NOT_NUMBERS)
    if half := half_pair_in(raw):
        return Refusal(
            "invalid_json", path_of_half_pair(raw), f"contains {half}, which is not valid JSON"
        )
    return Refusal("invalid_json", "", f"not valid JSON: {fault}")


def half_pair_in(raw: bytes) -> str:
    """Describe the first lone half of a surrogate pair, with its position; empty: none was found.

    Inputs longer than an event may be are not searched.
    """
    if len(raw) > MAX_SEARCHED_BYTES:
        return ""
    for found in _escapes(raw):
        if half := found[1]:
            return f"half a surrogate pair (\\{half.decode()} at byte {found.start()})"
    return ""


def path_of_half_pair(raw: bytes) -> str:
    """Return the path of the first lone half, such as `properties.names[2]`; empty: unknown."""
    try:
        return (_path_in(json.loads(raw), "") or "").removeprefix(".")[:MAX_PATH]
    except (ValueError, RecursionError):
        return ""


def _path_in(value: object, path: str) -> str | None:
    """Return the path of the first lone half in a value; None: there is none."""
    if isinstance(value, str):
        return path if _half(value) else None
    inside: Iterable[tuple[str, object]] = ()
    if isinstance(value, dict):
        if any(map(_half, value)):
            return path
        inside = ((f"{path}.{name}", one) for name, one in value.items())
    elif isinstance(value, list):
        inside = ((f"{path}[{index}]", one) for index, one in enumerate(value))
    return next((found for at, one in inside if (found := _path_in(one, at)) is not None), None)


def _may_have_not_numbers(raw: bytes) -> bool:
    return _NAN[0] in raw or _INFINITY[0] in raw


def _masked_bits(raw: bytes) -> int:
    masked_raw = masked(raw)
    return (
        0 if masked_raw == raw else (int.from_bytes(masked_raw) ^ int.from_bytes(raw)).bit_count()
    )
