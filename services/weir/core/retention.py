"""How close unread records are to deletion: the broker deletes them after the retention, read or not."""

from collections.abc import Mapping
from dataclasses import dataclass

# A smaller used share of the retention counts as 0: a group that keeps up has no older records.
FLOOR = 0.05

ALL = "*"  # stands for every source where source ids are expected; no source can have this id
WHOM = ("source", "all")


@dataclass(frozen=True)
class RetentionUse:
    """The share of the retention that a group's oldest unread record of a topic has used."""

    group: str
    topic: str
    share: float  # 0: no unread record is as old as FLOOR; from 1 on: the broker may delete it
    sources: tuple[str, ...] = (ALL,)  # the sources of most of the waiting records; ALL: unknown

    def near(self, share: float) -> bool:
        """Check whether at least `share` of the retention is used; a `share` of 0 disables the check."""
        return 0 < share <= self.share


@dataclass(frozen=True)
class RetentionPolicy:
    """From which used shares on to warn and to reject new events, and whose events to reject.

    `whom` is one of WHOM. Why first by source and then all: docs/decisions/0014-who-is-refused.md.
    """

    warn: float  # 0: off
    refuse: float  # 0: off
    whom: str = "source"

    @property
    def report_from(self) -> float:
        return self.warn or self.refuse

    @property
    def named_from(self) -> float:
        """The share from which on the sources of the records must be determined; 0: never."""
        return self.refuse if self.whom == "source" else 0.0

    def refused(self, unread: RetentionUse) -> tuple[str, ...]:
        """Return the sources whose new events are rejected.

        ALL of them once half of the share above `refuse` is used too.
        """
        if not unread.near(self.refuse):
            return ()
        if self.whom == "all" or unread.near((self.refuse + 1) / 2):
            return (ALL,)
        return unread.sources


def heaviest(weights: Mapping[str, float]) -> tuple[str, ...]:
    """Return the fewest sources that together have more than half of the total weight.

    A source with at least half the weight of the smallest of them is included: weights come from a sample.
    Return (ALL,) if it is unknown. The name "" stands for records that have no source or cannot be read.
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
    """Return how long a topic with this configuration keeps records; None: it never deletes by age."""
    limit = int(config.get("retention.ms", "-1"))
    return limit if limit > 0 and "delete" in config.get("cleanup.policy", "delete") else None


def first_unread(position: int, first: int, end: int) -> int:
    """Return the offset that a group reads next in a partition with records from `first` to `end`.

    `position` is the committed offset, negative if there is none. A position beyond the end is from a
    deleted topic of the same name: nothing of the present topic has been read.
    """
    return max(first, position) if position <= end else first


def used(written_ms: int, now_ms: int, limit_ms: int) -> float:
    """Return the share of its retention that a record has used; less than FLOOR counts as 0."""
    share = (now_ms - written_ms) / limit_ms
    return share if share >= FLOOR else 0.0
