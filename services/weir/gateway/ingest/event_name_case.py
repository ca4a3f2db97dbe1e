"""How event names may be written, for sources that hold their senders to one way. Pure."""

import unicodedata
from functools import lru_cache

from weir.core.registry import Casing
from weir.gateway.ingest.validation import RESERVED

SEPARATORS: dict[Casing, str] = {"snake_case": "_", "kebab-case": "-"}
_WORD = frozenset("LMN")  # letters, the marks upon them, and numbers, of any script


@lru_cache(maxsize=4_096)
def is_cased(name: str, casing: Casing) -> bool:
    """Whether a name is written so. Names of Weir's own, which nobody chose, always are.

    Capitals in a row are an abbreviation, one word or more: `parseHTML` and `userID` are camelCase,
    `HTTPRequest`, and so `FAQ`, TitleCase. What has no case (digits, 注文) goes with either.
    """
    if name.startswith(RESERVED):
        return True
    separator = SEPARATORS.get(casing)
    if separator is not None:
        return name == name.lower() and all(map(_is_word, name.split(separator)))
    first = name.lstrip("0123456789")[:1]
    return _is_word(name) and not (first.islower() if casing == "TitleCase" else first.isupper())


def _is_word(text: str) -> bool:
    return text != "" and all(unicodedata.category(one)[0] in _WORD for one in text)
