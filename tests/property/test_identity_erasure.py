"""After an erasure no state names the person and no earlier event returns, in any interleaving."""

from hypothesis import given
from hypothesis import strategies as st

from tests.property.test_identity import EVENTS, IDS, MINUTE, Workers, event, run
from tests.support.profiles import examples
from weir.erasure.model import ErasedPerson as Known
from weir.identity.messages import Erase, IdentityEvent
from weir.identity.person import Person

UNTIL = 1_000 * MINUTE


def known_by(workers: Workers, subject: str) -> Known:
    """As the eraser finds it out from ClickHouse's tables."""
    person = Known.of("acme", subject, IDS)
    latest = {m.from_profile: m.into_profile for m in workers.merges if not m.refused}
    while True:
        parts = [
            (state.identity_key, state.profile_id, state.owner)
            for state in workers.people.values()
            if {state.identity_key, state.owner} & person.names
            or state.profile_id in person.profiles
        ]
        merges = [merge for merge in latest.items() if set(merge) & person.profiles]
        grown = person.with_ties(parts, merges)
        if grown == person:
            return person
        person = grown


def holders(workers: Workers, events: list[IdentityEvent], person: Known) -> set[str]:
    found = {
        m.detail.partition(" belongs to ")[0]
        for m in workers.merges
        if m.refused and {m.from_profile, m.into_profile} & person.profiles
    }
    for one in events:
        profile_id = workers.resolved[one.event_id].profile_id
        if one.anonymous_id in person.anonymous_ids and profile_id not in person.profiles:
            found |= {"u:" + one.user_id} if one.user_id else set()
            found.add("p:" + profile_id)
    return found - person.names


def remembered(state: Person) -> set[str]:
    linked = {part for target in state.memory.linked for part in target.split("\0")}
    return {state.identity_key, state.owner} | linked


@examples(400)
@given(EVENTS, st.sampled_from(["user:1", "user:2", "profile:p"]), st.data())
def test_an_erased_person_is_in_no_state_and_reread_events_are_not_resolved(
    sent: list[dict[str, str | int]], subject: str, choices: st.DataObject
) -> None:
    workers, events = run(sent, choices)
    person = known_by(workers, subject)
    others = holders(workers, events, person)
    # An event at a device that was theirs and is another's by now would be that one's, if it were read
    # again: who puts rows back knows it by the profile that it had (`weir.erasure.model.Barred`).
    theirs = [
        e
        for e in events
        if e.at in person.names and workers.resolved[e.event_id].profile_id in person.profiles
    ]
    workers.resolved.clear()
    for at in sorted(person.names | others):
        erase = Erase(at, "acme", sorted(person.names), UNTIL, kept_until=2 * UNTIL)
        workers.send(erase, at)
    for one in theirs:  # read again, say from a dead letter
        workers.send(one, one.at)
    while waiting := workers.waiting():
        workers.serve(choices.draw(st.sampled_from(waiting)))
    written = [state for state in workers.people.values() if state.version]
    assert not workers.resolved
    assert all(not remembered(state) & person.names for state in written)
    assert all(state.profile_id not in person.profiles for state in written)
    for at in sorted(person.names):
        late = event(10_000, "", "", "", 2_000)
        late.at = at
        workers.send(late, at)
        workers.serve(at)
        assert workers.people["acme", at].events == 1  # somebody new
