"""Telling events apart though one of them holds what is no JSON: that is its fault alone. Pure.

Half a surrogate pair, as a cut emoji leaves it, and NaN and the infinities, as Python's `json` writes
them. Only for bodies that do not decode: others need none of it.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

import msgspec

from weir.gateway.ingest.error_codes import Refusal

T = TypeVar("T")

NOT_NUMBERS = "holds NaN or an infinity, which is not JSON"
# Numbers as nobody writes them, so that no event looks like another that has them.
_NAN = (b"NaN", b"0E7")
_INFINITY = (b"Infinity", b"0E-00007")

MAX_SEARCHED_BYTES = 100 * 1024  # an event's limit: a place in more than that is not looked for
MAX_PATH = 255

_half = re.compile("[\ud800-\udfff]").search  # Python's `json` joins whole pairs
# Escaped backslashes and whole pairs first, so that what is found as a group stands alone.
_escapes = re.compile(
    rb"\\(?:\\|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2}))"
).finditer
_escaped = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}").sub
# Strings, and what is between them that cannot be meant; to the body's end where a closing quote is
# missing, so that each byte is looked at once.
_strings = re.compile(rb'((?:"[^"\\]*+(?:\\.[^"\\]*+)*+"?+[^"NI]*+)++)', re.DOTALL).split


class Decoded(NamedTuple, Generic[T]):
    """What a decoder found in a body, though perhaps in its masked form alone."""

    found: T
    body: bytes
    told: bytes  # what it was found in: the body, or its masked form
    fault: str  # why not in the body itself, as msgspec says it; empty: it was

    def own(self, events: Iterable[bytes | msgspec.Raw]) -> list[bytes]:
        """The found events, in the body's order, as they stand in the body itself."""
        raws = [bytes(event) for event in events]
        return unmasked(raws, self.told, self.body) if self.fault else raws


def decoded(body: bytes, decode: Callable[[bytes], T]) -> Decoded[T]:
    """What is in a body, be one of its events no JSON. Raises as `decode` does where that is not all."""
    try:
        return Decoded(decode(body), body, body, "")
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as fault:
        told = masked(body)
        if told == body:
            raise
        return Decoded(decode(told), body, told, str(fault))


def masked(body: bytes) -> bytes:
    """The body with JSON of the same length in place of every such thing; for telling events apart."""
    told = _escaped(rb"\\ufffd", body)
    if not _may_have_not_numbers(told):
        return told
    parts = _strings(told)
    between = b'"'.join(parts[::2])  # quotes are in strings alone
    parts[::2] = between.replace(*_NAN).replace(*_INFINITY).split(b'"')
    return b"".join(parts)


def unmasked(events: Iterable[bytes], told: bytes, body: bytes) -> list[bytes]:
    """The events of a masked body, in its order, as they stand in the body itself."""
    found = []
    at = 0
    for event in events:
        at = told.index(event, at)
        found.append(body[at : at + len(event)])
        at += len(event)
    return found


def is_outside(events: Iterable[bytes], body: bytes) -> bool:
    """Whether something besides the body's events, as they stand in it, was masked."""
    return _masked_bits(body) != sum(map(_masked_bits, events))


def has_not_numbers(raw: bytes) -> bool:
    """Whether NaN or an infinity is in it, outside of strings."""
    if not _may_have_not_numbers(raw):
        return False
    between = b'"'.join(_strings(raw)[::2])
    return _may_have_not_numbers(between)


def not_json(raw: bytes, fault: Exception) -> Refusal:
    """Why an event is refused that does not decode."""
    if has_not_numbers(raw):
        return Refusal("invalid_json", "", NOT_NUMBERS)
    if half := half_pair_in(raw):
        return Refusal("invalid_json", path_of_half_pair(raw), f"has {half}, which is not JSON")
    return Refusal("invalid_json", "", f"not JSON: {fault}")


def half_pair_in(raw: bytes) -> str:
    """Name the first half of a surrogate pair that stands alone, and its place; empty: there is none.

    Nor is one looked for in more bytes than an event may have.
    """
    if len(raw) > MAX_SEARCHED_BYTES:
        return ""
    for found in _escapes(raw):
        if half := found[1]:
            return f"half a surrogate pair (\\{half.decode()} at byte {found.start()})"
    return ""


def path_of_half_pair(raw: bytes) -> str:
    """Return where the first half of a pair is, as `properties.names[2]`; empty if that cannot be told."""
    try:
        return (_path_in(json.loads(raw), "") or "").removeprefix(".")[:MAX_PATH]
    except (ValueError, RecursionError):
        return ""


def _path_in(value: object, path: str) -> str | None:
    """None: neither the value nor anything in it holds half a pair."""
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
    told = masked(raw)
    return 0 if told == raw else (int.from_bytes(told) ^ int.from_bytes(raw)).bit_count()
