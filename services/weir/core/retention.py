"""How near unread records are to the moment at which the broker deletes them, read or not."""

from collections.abc import Mapping
from dataclasses import dataclass

FLOOR = (
    0.05  # a smaller share of the retention counts as none: whoever keeps up has no such records
)

ALL = "*"  # every source, where names of sources stand; no source can have it as its name
WHOM = ("source", "all")


@dataclass(frozen=True)
class RetentionUse:
    """Of a retention, the share that a group's oldest unread record of a topic has used."""

    group: str
    topic: str
    share: float  # 0: nothing as old as FLOOR is unread; 1 and more: the broker may delete it
    sources: tuple[str, ...] = (ALL,)  # whose the greater part of what waits is; ALL: not known

    def near(self, share: float) -> bool:
        """Whether it is as near as `share` says; a `share` of 0 is off."""
        return 0 < share <= self.share


@dataclass(frozen=True)
class RetentionPolicy:
    """From which shares on unread records are told of, and whose new events are refused then.

    `whom` is one of WHOM. Why by source, and then all: docs/decisions/0014-who-is-refused.md.
    """

    warn: float  # 0: off
    refuse: float  # 0: off
    whom: str = "source"

    @property
    def told_from(self) -> float:
        return self.warn or self.refuse

    @property
    def named_from(self) -> float:
        """From here on a look must know whose the records are; 0: never."""
        return self.refuse if self.whom == "source" else 0.0

    def refused(self, unread: RetentionUse) -> tuple[str, ...]:
        """The sources whose new events are refused for it; ALL of them from half of the rest on."""
        if not unread.near(self.refuse):
            return ()
        if self.whom == "all" or unread.near((self.refuse + 1) / 2):
            return (ALL,)
        return unread.sources


def heaviest(weights: Mapping[str, float]) -> tuple[str, ...]:
    """The fewest sources that make up the greater part, by how much of it is each one's.

    A source with half as much as the least of them is one of them: weights come from a sample.
    `ALL` if that cannot be told; "" stands for what is no source's, or not to be read.
    """
    rest = sum(weights.values()) / 2
    least = 0.0
    for least in sorted(weights.values(), reverse=True):
        rest -= least
        if rest < 0:
            break
    found = sorted(source for source, weight in weights.items() if 2 * weight >= least)
    return tuple(found) if found and "" not in found else (ALL,)


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
