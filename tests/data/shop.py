"""A fortnight of a shop, generated: the events as its site would send them, and the truth about them.

The same people and seed give the same stream. `python -m tests.data.shop --people 3000 --out shop.ndjson`
writes it and prints the truth. People have one or two devices and share none; most log in, in the
middle of a visit, on each device they use; some never do. No session ids are sent, 3 % of the events
are sent again, and neighbours arrive out of order.
"""

import argparse
import itertools
import json
import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.data.shop_truth import DAY, FUNNEL, GAP, HOUR, MINUTE, SECOND, Happening, Truth, truth_of

Event = dict[str, Any]

DAYS = 14
REPEATED = 0.03
LATE = 0.15
LATEST = 5 * MINUTE
PRODUCTS = 120
CITIES = ("Bremen", "Köln", "Lyon", "Málaga", "Łódź", "São Paulo", "東京")


@dataclass
class _Visit:
    start: int
    device: str
    length: int  # events


class _Person:
    """One person's fortnight. All chance comes from one generator, seeded by seed and number."""

    def __init__(self, seed: int, number: int, begins: int) -> None:
        self._chance = random.Random(f"shop {seed} {number}")
        self._begins = begins
        self.logs_in = self._chance.random() < 0.75
        self._user = f"user-{number:05d}" if self.logs_in else ""
        count = 2 if self.logs_in and self._chance.random() < 0.4 else 1
        self._devices = [f"device-{seed}-{number:05d}-{'ab'[index]}" for index in range(count)]
        self._cart: list[tuple[str, float]] = []
        self.name = self._user or self._devices[0]
        self.happenings = self._live()

    def _live(self) -> list[Happening]:
        visits = sorted(self._visits(), key=lambda visit: visit.start)
        last = {visit.device: index for index, visit in enumerate(visits)}
        known: set[str] = set()  # devices that this person has logged in on
        lived: list[Happening] = []
        for index, visit in enumerate(visits):
            must = self.logs_in and visit.device not in known and last[visit.device] == index
            lived += self._visit(visit, known, must)
        return _apart(lived)

    def _visits(self) -> list[_Visit]:
        chance = self._chance
        visits = []
        for number in range(chance.choice((1, 1, 2, 2, 3, 4, 5, 7))):
            start = self._begins + chance.randrange(DAYS * DAY - 3 * HOUR)
            device = self._devices[number % len(self._devices)]
            visits.append(_Visit(start, device, chance.randint(2, 11)))
            if len(self._devices) == 2 and chance.random() < 0.2:  # goes on at the other device
                other = self._devices[(number + 1) % 2]
                visits.append(_Visit(start + chance.randrange(GAP), other, chance.randint(2, 5)))
            if chance.random() < 0.25:  # comes back about a day later
                later = start + DAY + chance.randrange(-2 * HOUR, 2 * HOUR)
                if later < self._begins + DAYS * DAY - 3 * HOUR:
                    visits.append(_Visit(later, device, chance.randint(2, 6)))
        return visits

    def _visit(self, visit: _Visit, known: set[str], must_log_in: bool) -> list[Happening]:
        chance = self._chance
        returning = visit.device in known and chance.random() < 0.6  # still logged in
        logs_in = must_log_in or (self.logs_in and not returning and chance.random() < 0.5)
        login_at = chance.randint(1, visit.length - 1) if logs_in else -1
        user = self._user if returning else ""
        at = visit.start
        happened = []
        name = "page_view"
        for step in range(visit.length):
            if step == login_at:
                user = self._user
                known.add(visit.device)
                happened.append(self._login(at, visit.device))
            else:
                name = self._next(name)
                shows_device = not user or chance.random() < 0.6
                event = Happening(at, name, visit.device, user, shows_device)
                self._shop(event)
                happened.append(event)
            at += self._pause()
        return happened

    def _login(self, at: int, device: str) -> Happening:
        """Both names at once: from here on the device's earlier events are this user's."""
        if self._chance.random() < 0.5:
            return Happening(at, "login", device, self._user, True)
        traits = {
            "city": self._chance.choice(CITIES),
            "newsletter": self._chance.random() < 0.5,
        }
        return Happening(at, "$identify", device, self._user, True, properties=traits)

    def _next(self, name: str) -> str:
        chance = self._chance.random()
        if name == "product_view":
            return (
                "add_to_cart" if chance < 0.4 else "product_view" if chance < 0.8 else "page_view"
            )
        if name == "add_to_cart":
            return "checkout_start" if chance < 0.5 else "product_view"
        if name == "checkout_start":
            return "purchase" if chance < 0.7 else "page_view"
        return "product_view" if chance < 0.6 else "page_view"

    def _shop(self, event: Happening) -> None:
        chance = self._chance
        if event.name in ("product_view", "add_to_cart"):
            number = chance.randrange(PRODUCTS)
            product, price = f"sku-{number:03d}", _price(number)
            event.properties = {"product": product, "price": price, "list": {"rank": number % 7}}
            if event.name == "add_to_cart":
                self._cart.append((product, price))
        elif event.name == "purchase":
            items = self._cart or [("sku-000", _price(0))]
            event.value = sum(price for _, price in items)
            event.properties = {
                "currency": "EUR",
                "items": [{"product": product, "price": price} for product, price in items],
            }
            self._cart = []
        elif event.name == "page_view":
            event.properties = {"path": f"/{chance.choice(('', 'sale', 'new', 'help'))}"}

    def _pause(self) -> int:
        chance = self._chance
        kind = chance.random()
        if kind < 0.01:
            return GAP  # exactly the gap: still the same visit
        if kind < 0.03:
            return GAP + chance.randint(1, 20 * MINUTE)  # longer: a new one
        if kind < 0.10:
            return chance.randint(5 * MINUTE, 29 * MINUTE)
        return chance.randint(2 * SECOND, 120 * SECOND)


def generate(
    people: int = 3_000, seed: int = 1, until: datetime | None = None
) -> tuple[Iterable[Event], Truth]:
    """The stream, in order of arrival and with its repeats, and the truth about it.

    The fortnight ends at `until`; by default at the last midnight (UTC).
    """
    end = until or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begins = round(end.timestamp() * SECOND) - DAYS * DAY
    crowd = [_Person(seed, number, begins) for number in range(people)]
    happenings = [(person, happening) for person in crowd for happening in person.happenings]
    happenings.sort(key=lambda pair: (pair[1].at, pair[0].name))
    events = [_wire(happening, seed, n) for n, (_, happening) in enumerate(happenings)]
    stream, repeats = _arrivals([h.at for _, h in happenings], events, seed)
    return stream, truth_of(
        {p.name: p.happenings for p in crowd}, sum(p.logs_in for p in crowd), repeats
    )


def _wire(happening: Happening, seed: int, number: int) -> Event:
    """The event as the site sends it. Both forms of a time are in use."""
    at = datetime.fromtimestamp(happening.at / SECOND, UTC)
    text = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event: Event = {
        "id": f"shop-{seed}-{number:07d}",
        "event": happening.name,
        "occurred_at": text if number % 3 else happening.at,
        "properties": happening.properties,
        "context": {"locale": "de-DE", "page": {"host": "shop.example"}},
    }
    if happening.user:
        event["user_id"] = happening.user
    if happening.shows_device:
        event["anonymous_id"] = happening.device
    if happening.value is not None:
        event["value"] = happening.value
    return event


def _arrivals(times: list[int], events: list[Event], seed: int) -> tuple[list[Event], int]:
    """Events in order of arrival: some late by up to minutes, some sent again a little later."""
    chance = random.Random(f"arrivals {seed}")
    arriving: list[tuple[int, int, Event]] = []
    repeats = 0
    for number, (at, event) in enumerate(zip(times, events, strict=True)):
        arrives = at + (chance.randrange(LATEST) if chance.random() < LATE else 0)
        arriving.append((arrives, number, event))
        if chance.random() < REPEATED:
            repeats += 1
            arriving.append((arrives + chance.randrange(HOUR), number, event))
    arriving.sort(key=lambda item: item[:2])
    return [event for _, _, event in arriving], repeats


def _apart(happenings: list[Happening]) -> list[Happening]:
    """No two events of a person in the same millisecond, so that their order is beyond dispute."""
    ordered = sorted(happenings, key=lambda h: h.at)
    for earlier, later in itertools.pairwise(ordered):
        later.at = max(later.at, earlier.at + 1)
    return ordered


def _price(number: int) -> float:
    """Quarters are exact in binary, so that a sum is the same in whatever order."""
    return 5.0 + (number * 37 % 400) / 4


def write(path: Path, events: Iterable[Event]) -> None:
    """One JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for event in events:
            file.write(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.data.shop", description=__doc__)
    parser.add_argument("--people", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    events, truth = generate(arguments.people, arguments.seed)
    write(arguments.out, events)
    json.dump(
        {
            "people": truth.people,
            "people who log in": truth.known_people,
            "events": truth.events,
            "repeats": truth.repeats,
            "sessions": truth.sessions,
            "revenue": truth.revenue,
            "purchases": truth.purchases,
            "funnel": dict(zip(FUNNEL, truth.funnel, strict=True)),
            "retention": [[str(day), new, back] for day, new, back in truth.retention],
            "events by name": truth.events_by_name,
        },
        sys.stdout,
        indent=2,
    )
    print()


if __name__ == "__main__":
    main()
