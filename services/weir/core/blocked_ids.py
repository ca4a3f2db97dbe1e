"""Placeholder values that are not ids: they would merge unrelated people into one profile. Pure.

The list combines those that PostHog, Segment and mParticle publish: what programs write for a missing
value, and the examples in manuals. Letter case, surrounding quotes and surrounding blanks are ignored.
"""

from collections.abc import Iterable
from typing import NamedTuple

# Values that consist only of zeros and dashes (`0`, the nil UUID) are blocked too.
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
        ),
        *("true", "false", "-1", "[object object]", "object object", "[]", "{}", "{{user_id}}"),
        *("anonymous", "anon", "guest", "unknown", "unidentified", "not_authenticated", "not set"),
        *("(not set)", "not_set", "void", "empty"),
        *("id", "distinct_id", "distinctid", "user_id", "userid", "email"),
        *("anonymous_id", "anonymousid", "session_id", "sessionid", "device_id", "deviceid"),
        *("profile_id", "profileid", "visitor_id", "visitorid", "client_id", "clientid"),
    }
)
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
        bare = text.strip("\"'` \t\r\n").lower()
        if bare in self.further:
            return True
        return self.default and (bare in BLOCKED or not bare.strip("0-"))


DEFAULT = BlockedIds()
