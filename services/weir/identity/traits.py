"""Keep a person's traits: per name the value that was set last, by the events' own times. Pure functions."""

import msgspec

from weir.identity.messages import IdentityEvent
from weir.identity.person import Person, Stamp

MAX_TRAITS_BYTES = 102_400
NOBODY = bytes(16)  # sorts before every event id

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def learn(person: Person, event: IdentityEvent) -> None:
    """Set the traits of an `$identify` event, except those that a later one has already set.

    Of two events with the same time, the one received last wins: event ids are in the order of receipt. Traits
    from a version without stamps count as set at `traits_at`.
    """
    stamp = Stamp(event.occurred_at, event.event_id)
    known = _decode(person.traits)
    stamps = stamps_of(person, known)
    for name, value in event.traits.items():
        if name not in stamps or stamps[name] <= stamp:
            known[name], stamps[name] = value, stamp
    text = msgspec.json.encode(known)
    if len(text) <= MAX_TRAITS_BYTES:  # else the event itself still has them
        person.traits = text.decode()
        keep_stamps(person, [stamps[name] for name in known])
    person.traits_at = max(person.traits_at, event.occurred_at)


def stamps_of(person: Person, known: dict[str, msgspec.Raw]) -> dict[str, Stamp]:
    """Return when each trait was set, by name."""
    memory = person.memory
    if len(memory.trait_stamps) != len(known):
        return dict.fromkeys(known, Stamp(person.traits_at, NOBODY))
    return {name: memory.stamps[at] for name, at in zip(known, memory.trait_stamps, strict=True)}


def keep_stamps(person: Person, stamps: list[Stamp]) -> None:
    """Store each distinct stamp once, since most traits are set together."""
    places = {stamp: at for at, stamp in enumerate(dict.fromkeys(stamps))}
    person.memory.stamps = list(places)
    person.memory.trait_stamps = [places[stamp] for stamp in stamps]
