"""Keeps write keys out of what is kept of what was refused. Pure."""

import json
import re
from functools import lru_cache

MASK = b"***"


def masked(payload: bytes, key: str) -> bytes:
    """The payload without the key, however JSON spells it."""
    if not key:
        return payload
    if b"\\" not in payload:
        return payload.replace(key.encode(), MASK)
    return _spelled(key).sub(MASK, payload)


@lru_cache(maxsize=256)
def _spelled(key: str) -> re.Pattern[bytes]:
    return re.compile(b"".join(map(_spellings, key)))


def _spellings(character: str) -> bytes:
    """A character escaped by name, by number (some encoders do so with `=` or `/`), and as it is."""
    named = json.dumps(character, ensure_ascii=False)[1:-1]
    numbered = character.encode("utf-16-be").hex()
    units = [numbered[at : at + 4] for at in range(0, len(numbered), 4)]
    ways = [
        re.escape(named),
        "".join(rf"\\u(?i:{unit})" for unit in units),
        *([r"\\/"] if character == "/" else []),
        re.escape(character),
    ]
    return f"(?:{'|'.join(dict.fromkeys(ways))})".encode()
