"""Mask write keys in the payloads that are stored for rejected events. Pure."""

import json
import re
from functools import lru_cache

MASK = b"***"


def masked(payload: bytes, key: str) -> bytes:
    """Return the payload with the key masked, in every JSON spelling of it."""
    if not key:
        return payload
    if b"\\" not in payload:
        return payload.replace(key.encode(), MASK)
    return _spelled(key).sub(MASK, payload)


@lru_cache(maxsize=256)
def _spelled(key: str) -> re.Pattern[bytes]:
    return re.compile(b"".join(map(_spellings, key)))


def _spellings(character: str) -> bytes:
    """Match a character escaped by name, by number (as some encoders do with `=` or `/`), or unescaped."""
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
