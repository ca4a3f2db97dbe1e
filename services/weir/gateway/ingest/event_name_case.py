"""Check the casing of event names, for sources that require one casing. Pure."""

import unicodedata
from functools import lru_cache

from weir.core.registry import Casing
from weir.gateway.ingest.validation import RESERVED

SEPARATORS: dict[Casing, str] = {"snake_case": "_", "kebab-case": "-"}
_WORD = frozenset("LMN")  # letters, combining marks and numbers of any script


@lru_cache(maxsize=4_096)
def is_cased(name: str, casing: Casing) -> bool:
    """Check whether a name has a casing. Weir's reserved names always pass, because no sender chose them.

    Consecutive capitals are an abbreviation of one or more words: `parseHTML` and `userID` are camelCase,
    `HTTPRequest` and `FAQ` are TitleCase. Characters without case (digits, 注文) fit either.
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
