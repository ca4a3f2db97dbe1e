"""Placeholder values that are not ids: they would merge unrelated people into one profile. Pure.

The list combines those that PostHog, Segment and mParticle publish: what programs write for a missing
value, and the examples in manuals. Letter case, surrounding quotes, blanks and characters that show nothing
(zero-width ones and other format characters) are ignored.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

# Values that consist only of zeros, dashes and dots (`0`, `0.0`, the nil UUID) are blocked too.
BLOCKED = frozenset(
    {
        *(
            "undefined",
            "null",
            "nil",
            "none",
            "nan",
            "n/a",
            "na",
            "(null)",
            "(none)",
            "<nil>",
            "nul",
            "inf",
            "-inf",
            "infinity",
            "-infinity",
        ),
        *("true", "false", "-1", "[object object]", "object object", "[]", "{}", "{{user_id}}"),
        *("anonymous", "anon", "guest", "unknown", "unidentified", "not_authenticated", "not set"),
        *("(not set)", "not_set", "void", "empty"),
        *("id", "distinct_id", "distinctid", "user_id", "userid", "email"),
        *("anonymous_id", "anonymousid", "session_id", "sessionid", "device_id", "deviceid"),
        *("profile_id", "profileid", "visitor_id", "visitorid", "client_id", "clientid"),
    }
)
# What programs print for objects and for variables that nobody has filled in: `[object Window]`, `{{user.id}}`,
# `${userId}`, `%user_id%`, `<null>`.
_template = re.compile(
    r"\[object [^\]]*\]|\{\{.*\}\}|\$\{.*\}|%[a-z_.]+%|<[a-z_ ]*>|#n/a"
).fullmatch
_separators = re.compile(r"[ ,;|/]+").split
NOT_SHOWN = frozenset({"Cf", "Cc"})  # Unicode categories: format and control characters
LONGEST = 48  # characters; longer values are checked only if the source has a list of its own


class BlockedIds(NamedTuple):
    """The values that do not count as ids for one source."""

    further: frozenset[str] = frozenset()  # the source's own list, in lower case
    default: bool = True  # whether `BLOCKED` applies

    @classmethod
    def of(cls, further: Iterable[str], default: bool) -> "BlockedIds":
        return cls(frozenset(text.strip().lower() for text in further), default)

    def has(self, text: str) -> bool:
        """Check whether a value is blocked, that is, not an id."""
        if len(text) > LONGEST and not self.further:
            return False
        if not text.isascii():
            text = "".join(c for c in text if unicodedata.category(c) not in NOT_SHOWN).strip()
        bare = text.strip("\"'` \t\r\n").lower()
        if bare in self.further:
            return True
        return self.default and (not bare or _is_placeholder(bare))


def _is_placeholder(bare: str) -> bool:
    """Check a value against the list and its patterns; quick for ordinary ids, because it runs for every event."""
    if bare in BLOCKED:
        return True
    first = bare[0]
    if first in "0-." and not bare.strip("0-."):
        return True
    if first in "[{$%<#" and _template(bare):
        return True
    if " " in bare or "," in bare or ";" in bare or "|" in bare or "/" in bare:
        return all(part in BLOCKED or not part.strip("0-.") for part in _separators(bare))
    return False


DEFAULT = BlockedIds()
