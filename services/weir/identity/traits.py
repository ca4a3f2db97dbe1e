"""A person's traits: of each name the value that was set last, by the events' own time. Pure."""

import msgspec

from weir.identity.messages import IdentityEvent
from weir.identity.person import Person, Stamp

MAX_TRAITS_BYTES = 102_400
NOBODY = bytes(16)  # comes before every event id

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def learn(person: Person, event: IdentityEvent) -> None:
    """Set what an `$identify` says, save for what a later one has set.

    Of two at the same time the one that was received last: ids of events are in the order of receipt.
    What the earlier version knew counts as set at `traits_at`.
    """
    stamp = Stamp(event.occurred_at, event.event_id)
    known = _decode(person.traits)
    stamps = stamps_of(person, known)
    for name, value in event.traits.items():
        if name not in stamps or stamps[name] <= stamp:
            known[name], stamps[name] = value, stamp
    text = msgspec.json.encode(known)
    if len(text) <= MAX_TRAITS_BYTES:  # beyond it the event itself still holds what was said
        person.traits = text.decode()
        keep_stamps(person, [stamps[name] for name in known])
    person.traits_at = max(person.traits_at, event.occurred_at)


def stamps_of(person: Person, known: dict[str, msgspec.Raw]) -> dict[str, Stamp]:
    """When each trait was set."""
    memory = person.memory
    if len(memory.trait_stamps) != len(known):
        return dict.fromkeys(known, Stamp(person.traits_at, NOBODY))
    return {name: memory.stamps[at] for name, at in zip(known, memory.trait_stamps, strict=True)}


def keep_stamps(person: Person, stamps: list[Stamp]) -> None:
    """Each stamp once: most traits were set together."""
    places = {stamp: at for at, stamp in enumerate(dict.fromkeys(stamps))}
    person.memory.stamps = list(places)
    person.memory.trait_stamps = [places[stamp] for stamp in stamps]
