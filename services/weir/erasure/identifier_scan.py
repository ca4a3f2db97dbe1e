"""Search bytes for identifiers that stand as whole words, never as part of another word. Pure.

Thousands of identifiers cost as little as one: the scan looks up the bytes at a position in a set, once
for each distinct length of the identifiers.
"""

import json
import re
from collections.abc import Iterable

from weir.adapters import avro

WORD = rb"[0-9A-Za-z_\-]"
# `"user_id": "7"`, `userId=7`, `"id":7`
NAMED = re.compile(rb"(?i:id)[\"']?\s*[:=]\s*([\"']?)")
NEVER = re.compile(rb"(?!)")


class IdentifierScan:
    """A search for any of some identifiers in text, JSON and Avro records."""

    def __init__(self, identifiers: Iterable[str]) -> None:
        self.identifiers = sorted({i for i in identifiers if i})
        self.forms = sorted({form for i in self.identifiers for form in forms(i)})
        self._written = {form.encode() for form in self.forms}
        self._lengths = sorted({len(form) for form in self._written})
        first = b"".join(sorted({re.escape(form[:1]) for form in self._written}))
        self._starts = re.compile(rb"(?<!%s)[%s]" % (WORD, first)) if first else NEVER
        # in an Avro record the length precedes a string, and may look like a letter before the word
        self._bare = {i.encode() for i in self.identifiers}
        self._prefixes = [(avro.long(n), n) for n in sorted({len(bare) for bare in self._bare})]

    def anywhere(self, content: bytes) -> bool:
        """Check whether the content has any of the identifiers, even where it is about another person."""
        return any(
            self._stands_at(content, start.start()) for start in self._starts.finditer(content)
        ) or any(self._is_in_avro(content, *prefix) for prefix in self._prefixes)

    def named(self, content: bytes) -> bool:
        """Check whether the content is about one of the identifiers: as the value of a name that ends in `id`."""
        return any(
            self._stands_at(content, name.end()) or self._stands_at(content, name.start(1))
            for name in NAMED.finditer(content)
        )

    def _stands_at(self, content: bytes, start: int) -> bool:
        for length in self._lengths:
            end = start + length
            if content[start:end] in self._written and not _IS_WORD[content[end : end + 1]]:
                return True
        return False

    def _is_in_avro(self, content: bytes, prefix: bytes, length: int) -> bool:
        at = content.find(prefix)
        while at >= 0:
            start = at + len(prefix)
            if content[start : start + length] in self._bare:
                return True
            at = content.find(prefix, at + 1)
        return False


_IS_WORD = {b"": False} | {
    bytes([byte]): re.fullmatch(WORD, bytes([byte])) is not None for byte in range(256)
}


def forms(identifier: str) -> set[str]:
    """Return the identifier as it is and in each form that JSON may give it."""
    return {
        identifier,
        json.dumps(identifier)[1:-1],
        json.dumps(identifier, ensure_ascii=False)[1:-1],
        json.dumps(identifier, ensure_ascii=False)[1:-1].replace("/", "\\/"),
    }
