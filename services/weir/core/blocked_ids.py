"""Values that stand where an id should and name nobody: they would make one person of strangers. Pure.

The list joins those that PostHog, Segment and mParticle publish: what a program writes in place of a
missing value, and what an example in a manual has. Letter case, quotes and blanks around do not count.
"""

from collections.abc import Iterable
from typing import NamedTuple

# Besides these: nothing but zeros and dashes (`0`, the nil UUID).
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
LONGEST = 48  # characters that are looked at


class BlockedIds(NamedTuple):
    """What of a source's ids are none."""

    further: frozenset[str] = frozenset()  # in lower case
    default: bool = True  # whether `BLOCKED` counts

    @classmethod
    def of(cls, further: Iterable[str], default: bool) -> "BlockedIds":
        return cls(frozenset(text.strip().lower() for text in further), default)

    def has(self, text: str) -> bool:
        """Whether a value is no id."""
        if len(text) > LONGEST and not self.further:
            return False
        bare = text.strip("\"'` \t\r\n").lower()
        if bare in self.further:
            return True
        return self.default and (bare in BLOCKED or not bare.strip("0-"))


DEFAULT = BlockedIds()
