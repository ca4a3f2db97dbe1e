"""Where an identifier stands in bytes: as a word of its own, never as a part of another. Pure."""

import json
import re
from collections.abc import Iterable

WORD = rb"[0-9A-Za-z_\-]"


class Traces:
    """Finds any of some identifiers in text, JSON and Avro records."""

    def __init__(self, identifiers: Iterable[str]) -> None:
        found = sorted({i for i in identifiers if i})
        self.forms = sorted({form for identifier in found for form in _forms(identifier)})
        written = b"|".join(re.escape(form.encode()) for form in self.forms) or rb"(?!)"
        # in an Avro record a text follows its length, which may look like a letter
        in_avro = b"|".join(re.escape(_avro(identifier)) for identifier in found) or rb"(?!)"
        word = rb"(?<!%s)(?:%s)(?!%s)" % (WORD, written, WORD)
        self._anywhere = re.compile(rb"%s|%s" % (word, in_avro))
        # `"user_id": "7"`, `userId=7`, `"id":7`
        self._named = re.compile(rb"(?i:id)[\"']?\s*[:=]\s*[\"']?(?:%s)(?!%s)" % (written, WORD))

    def anywhere(self, content: bytes) -> bool:
        """Whether it has one of them at all, be it said of somebody else."""
        return self._anywhere.search(content) is not None

    def named(self, content: bytes) -> bool:
        """Whether it is about one of them: what stands there is the value of something called `...id`."""
        return self._named.search(content) is not None


def _forms(identifier: str) -> set[str]:
    """As it is, and as JSON may have it."""
    return {
        identifier,
        json.dumps(identifier)[1:-1],
        json.dumps(identifier, ensure_ascii=False)[1:-1],
        json.dumps(identifier, ensure_ascii=False)[1:-1].replace("/", "\\/"),
    }


def _avro(identifier: str) -> bytes:
    """A string as Avro has it: its length as a zigzag varint, then its bytes."""
    text = identifier.encode()
    length, prefix = len(text) << 1, bytearray()
    while length >= 0x80:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((*prefix, length)) + text
