"""The truth about a shop's fortnight, by plain counting over people whom the generator knows."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
GAP = 30 * MINUTE  # a visit ends when nothing happens for longer than this
FUNNEL = ("product_view", "add_to_cart", "purchase")


@dataclass(frozen=True)
class Truth:
    """What is true of the stream.

    A person's name is the user id, for those who never log in their anonymous id.
    """

    people: int
    known_people: int  # those who log in
    events: int  # without repeats
    repeats: int
    events_per_person: dict[str, int]
    sessions_per_person: dict[str, int]
    revenue: float
    purchases: int
    funnel: tuple[int, int, int]  # people who got as far as each step of FUNNEL within a day
    retention: list[
        tuple[date, int, int]
    ]  # day, people first seen then, of these seen the next day
    events_by_name: dict[str, int]

    @property
    def sessions(self) -> int:
        return sum(self.sessions_per_person.values())


@dataclass
class Happening:
    """One event of one person, before it is written as JSON."""

    at: int  # epoch milliseconds
    name: str
    device: str
    user: str  # empty: not logged in at that moment
    shows_device: bool
    value: float | None = None
    properties: dict[str, Any] = field(default_factory=dict)


Crowd = Mapping[str, list[Happening]]  # what each person did, by name, in order


def truth_of(crowd: Crowd, known_people: int, repeats: int) -> Truth:
    everything = [happening for happenings in crowd.values() for happening in happenings]
    purchases = [h for h in everything if h.name == "purchase"]
    depths = Counter(funnel_depth(happenings) for happenings in crowd.values())
    reached = [sum(depths[depth] for depth in range(step, 4)) for step in (1, 2, 3)]
    return Truth(
        people=len(crowd),
        known_people=known_people,
        events=len(everything),
        repeats=repeats,
        events_per_person={name: len(happenings) for name, happenings in crowd.items()},
        sessions_per_person={name: count_sessions(h) for name, h in crowd.items()},
        revenue=sum(h.value or 0.0 for h in purchases),
        purchases=len(purchases),
        funnel=(reached[0], reached[1], reached[2]),
        retention=_retention(crowd),
        events_by_name=dict(sorted(Counter(h.name for h in everything).items())),
    )


def count_sessions(happenings: list[Happening]) -> int:
    """Visits by the gap rule over all of a person's devices."""
    times = sorted(h.at for h in happenings)
    return 1 + sum(later - earlier > GAP for earlier, later in itertools.pairwise(times))


def funnel_depth(happenings: list[Happening]) -> int:
    """How far a person got through FUNNEL, in order, all within a day of the first step."""
    steps = sorted((h.at, FUNNEL.index(h.name)) for h in happenings if h.name in FUNNEL)
    deepest = 0
    for first, (start, step) in enumerate(steps):
        if step != 0:
            continue
        depth = 1
        for at, further in steps[first + 1 :]:
            if at > start + DAY:
                break
            if further == depth:
                depth += 1
        deepest = max(deepest, depth)
    return deepest


def _retention(crowd: Crowd) -> list[tuple[date, int, int]]:
    first_seen: dict[date, int] = defaultdict(int)
    returned: dict[date, int] = defaultdict(int)
    for happenings in crowd.values():
        days = {datetime.fromtimestamp(h.at / SECOND, UTC).date() for h in happenings}
        first = min(days)
        first_seen[first] += 1
        returned[first] += first + timedelta(days=1) in days
    return [(day, first_seen[day], returned[day]) for day in sorted(first_seen)]
