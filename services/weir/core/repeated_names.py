"""Remove repeated names from JSON objects: the first value is kept, as in ClickHouse's JSON type. Pure."""

import json
from typing import Any

import msgspec
from msgspec import Raw

_encode = msgspec.json.Encoder().encode


def without_repeats(raw: bytes) -> bytes:
    """Return a JSON object with only the first value of each name, at every level; the same bytes if none repeats.

    The usual decoders keep the last value instead. Numbers stay exactly as they were written.
    """
    repeats = False

    def first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeats
        found = dict(reversed(pairs))
        if len(found) == len(pairs):
            return dict(pairs)
        repeats = True
        return {name: found[name] for name, _ in pairs}

    value = json.loads(raw, object_pairs_hook=first_of_each, parse_int=_number, parse_float=_number)
    return _encode(value) if repeats else raw


def _number(text: str) -> Raw:
    return Raw(text.encode())
