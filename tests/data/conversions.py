"""100,000 events of two sites and an experiment whose true answer is known, by plain counting of people.

People lose and find their devices: half of them log in after they were exposed, some on two devices, so
that what one person did lies in up to three profiles that are merged later.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

EVENTS = 100_000
PEOPLE = 9_000
START = 1_767_225_600_000  # 2026-01-01T00:00:00Z
HOUR = 3_600_000
DAYS = 3
EXPERIMENT = "42"
BETWEEN = 12 * HOUR  # the first exposures to two variations
SITE, BACKEND = "shop", "backend"
CHANCES = {"A": 0.10, "B": 0.13, "C": 0.10}  # to purchase
SPENDS = {"A": 40.0, "B": 40.0, "C": 46.0}
PATHS = ("/", "/pricing", "/thanks", "/docs/ünï", "/thanks/more")


@dataclass(frozen=True)
class Happening:
    """One event of one person; `person` -1: nobody knows whose."""

    person: int
    profile: str
    at: int
    source: str
    event: str
    value: float | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    path: str = ""

    def record(self) -> dict[str, Any]:
        """As fields of a resolved event."""
        return {
            "profile": self.profile,
            "occurred_at": self.at,
            "source": self.source,
            "event": self.event,
            "value": self.value,
            "properties": json.dumps(self.properties),
            "context": json.dumps(self.context),
        }


@dataclass
class Person:
    """Who somebody is, and what they were shown when; `variations` empty: not in the experiment."""

    number: int
    profiles: list[str]
    variations: list[str]
    exposed_at: int


@dataclass
class Stream:
    people: list[Person]
    happenings: list[Happening]

    def merges(self) -> Iterator[tuple[str, str]]:
        """Of each merged profile, itself and what it became."""
        for person in self.people:
            for profile in person.profiles[1:]:
                yield profile, person.profiles[0]


def generate(seed: int = 7) -> Stream:
    """The same stream for the same seed, in no order."""
    chance = random.Random(seed)
    stream = Stream([], [])
    for number in range(PEOPLE):
        person = _person(number, chance)
        stream.people.append(person)
        stream.happenings += _exposures(person, chance)
        stream.happenings += _purchases(person, chance)
        stream.happenings += [_page_view(person, chance) for _ in range(chance.randint(1, 9))]
    while len(stream.happenings) < EVENTS:
        nobody = chance.random() < 0.1
        person = stream.people[chance.randrange(PEOPLE // 2)]  # the others may not have been there
        event = chance.choice(("scroll", "signup", "thanks"))
        view = _page_view(person, chance)
        made = Happening(
            -1 if nobody else person.number,
            "" if nobody else view.profile,
            view.at,
            chance.choice((SITE, SITE, BACKEND)),
            event,
            properties={"path": "/thanks"},  # but no page view
        )
        stream.happenings.append(made)
    chance.shuffle(stream.happenings)
    return stream


def _person(number: int, chance: random.Random) -> Person:
    profiles = [f"p{number}-{device}" for device in range(chance.choice((1, 1, 2, 3)))]
    variations = [] if number % 20 == 0 else [chance.choice("ABC")]
    if variations and number % 33 == 0:
        variations.append(chance.choice([v for v in "ABC" if v not in variations]))
    return Person(number, profiles, variations, _moment(chance))


def _exposures(person: Person, chance: random.Random) -> Iterator[Happening]:
    """The first is the person's own moment, the others later; testers and strangers do not count."""

    def exposure(at: int, variation: str, **more: Any) -> Happening:
        # as text, as a number: it is the same experiment
        key = chance.choice((EXPERIMENT, int(EXPERIMENT)))
        properties = {"experiment_key": key, "variation_key": variation, **more}
        profile = chance.choice(person.profiles)
        return Happening(person.number, profile, at, SITE, "$exposure", properties=properties)

    for place, variation in enumerate(person.variations):
        first = person.exposed_at + place * BETWEEN
        yield exposure(first, variation, decision_reason="TRAFFIC_ALLOCATED")
        for _ in range(chance.randint(0, 2)):
            yield exposure(first + chance.randrange(HOUR), variation)
    if not person.variations or person.number % 50 == 0:
        early = person.exposed_at - HOUR
        yield exposure(early, "A", decision_reason="TRAFFIC_NOT_ALLOCATED")
        yield exposure(early, "B", decision_reason="OVERRIDDEN")
        yield exposure(early, "", decision_reason="TRAFFIC_ALLOCATED")
        other = {"experiment_key": "43", "decision_reason": "TRAFFIC_ALLOCATED"}
        yield exposure(early, "C", **other)


def _purchases(person: Person, chance: random.Random) -> Iterator[Happening]:
    def purchase(at: int, mean: float) -> Happening:
        value = None if chance.random() < 0.05 else round(chance.lognormvariate(0, 0.6) * mean, 2)
        source = chance.choice((SITE, BACKEND))
        profile = chance.choice(person.profiles)
        return Happening(person.number, profile, at, source, "purchase", value)

    variation = person.variations[0] if person.variations else "A"
    if chance.random() < 0.05:
        yield purchase(person.exposed_at - 1 - chance.randrange(HOUR), 500.0)
    if chance.random() < CHANCES[variation]:
        for count in range(chance.choice((1, 1, 2))):
            later = count * chance.randrange(HOUR)  # the first at the very moment
            yield purchase(person.exposed_at + later, SPENDS[variation])


def _page_view(person: Person, chance: random.Random) -> Happening:
    path = chance.choice(PATHS)
    profile = chance.choice(person.profiles)
    properties: dict[str, Any] = {}
    context: dict[str, Any] = {}
    url = f"https://shop.example{path if path != '/' else chance.choice(('', '/'))}?q=1#top"
    match chance.randrange(3):
        case 0:
            properties = {"path": path, "url": "https://shop.example/elsewhere"}
        case 1:
            properties = {"url": url}
        case 2:
            context = {"page": {"url": url}}
    at = _moment(chance)
    return Happening(person.number, profile, at, SITE, "page_view", None, properties, context, path)


def _moment(chance: random.Random) -> int:
    return START + HOUR + chance.randrange((DAYS * 24 - 6) * HOUR)
