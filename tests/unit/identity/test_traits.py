"""Every trait has its own time, and the latest value by event time wins."""

import msgspec

from tests.support.events import identify
from weir.identity.messages import IdentityEvent
from weir.identity.person import Memory, Person
from weir.identity.snapshot import decode_person, encode_person
from weir.identity.step import People, decide
from weir.identity.traits import MAX_TRAITS_BYTES, learn


def traits_after(*events: IdentityEvent) -> dict[str, object]:
    people: People = {}
    for event in events:
        decide([event], people)
        # as it goes to the changelog and comes back
        people = {place: decode_person(encode_person(one)) for place, one in people.items()}
    found: dict[str, object] = msgspec.json.decode(people[("acme", "u:7")].traits)
    return found


def test_a_late_trait_is_set_unless_a_later_event_has_set_it() -> None:
    early, between = (
        identify(10, '{"plan": "free", "city": "Oslo"}'),
        identify(15, '{"plan": "pro"}'),
    )
    late = identify(20, '{"city": "Bergen"}')
    right = {"plan": "pro", "city": "Bergen"}
    assert traits_after(early, late, between) == right
    assert traits_after(late, between, early) == right
    assert traits_after(between, early, late) == right


def test_the_last_of_two_traits_with_equal_times_wins_in_any_order() -> None:
    first, last = identify(10, '{"plan": "free"}', 1), identify(10, '{"plan": "pro"}', 2)
    assert traits_after(first, last) == traits_after(last, first) == {"plan": "pro"}


def test_traits_stored_by_an_earlier_version_have_the_profiles_traits_time() -> None:
    memory = Memory(linked=["a:x\0u:7"], versions_before=3)
    person = Person("acme", "u:7", "p", traits='{"plan":"pro","city":"Oslo"}', traits_at=10)
    person.memory = memory
    learn(person, identify(5, '{"plan": "free", "age": 30}'))
    assert msgspec.json.decode(person.traits) == {"plan": "pro", "city": "Oslo", "age": 30}
    learn(person, identify(12, '{"plan": "free"}'))
    learn(person, identify(11, '{"plan": "gold", "city": "Bergen"}'))
    assert msgspec.json.decode(person.traits) == {"plan": "free", "city": "Bergen", "age": 30}


def test_the_stored_trait_times_are_as_many_as_the_traits() -> None:
    person = Person("acme", "u:7", "p")
    for number in range(200):
        learn(person, identify(number, f'{{"plan": "pro", "visits": {number}}}', number))
    assert len(person.memory.stamps) == 1
    assert len(person.memory.trait_stamps) == 2
    learn(person, identify(300, f'{{"long": "{"x" * MAX_TRAITS_BYTES}"}}'))
    assert msgspec.json.decode(person.traits) == {"plan": "pro", "visits": 199}
    assert len(person.memory.trait_stamps) == 2
