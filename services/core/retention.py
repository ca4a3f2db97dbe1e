"""How near unread records are to the moment at which the broker deletes them, read or not."""

from collections.abc import Mapping
from dataclasses import dataclass

FLOOR = (
    0.05  # a smaller share of the retention counts as none: whoever keeps up has no such records
)


@dataclass(frozen=True)
class Unread:
    """Of a retention, the share that a group's oldest unread record of a topic has used."""

    group: str
    topic: str
    share: float  # 0: nothing as old as FLOOR is unread; 1 and more: the broker may delete it

    def near(self, share: float) -> bool:
        """Whether it is as near as `share` says; a `share` of 0 is off."""
        return 0 < share <= self.share


def retention_ms(config: Mapping[str, str]) -> int | None:
    """How long a topic of this configuration keeps a record; None: age alone deletes nothing."""
    limit = int(config.get("retention.ms", "-1"))
    return limit if limit > 0 and "delete" in config.get("cleanup.policy", "delete") else None


def first_unread(position: int, first: int, end: int) -> int:
    """The offset that a group reads next of a partition with records from `first` to `end`.

    `position` is what it has committed, negative if nothing. One beyond the end is of a topic that
    was made anew under this name: none of the present one is read.
    """
    return max(first, position) if position <= end else first


def used(written_ms: int, now_ms: int, limit_ms: int) -> float:
    """The share of its retention that a record has used."""
    share = (now_ms - written_ms) / limit_ms
    return share if share >= FLOOR else 0.0
