"""Identity over any events in any interleaving of its workers: people are never mixed, and end up whole."""

import itertools
from collections import defaultdict, deque

from hypothesis import given
from hypothesis import strategies as st

from services.core.identifiers import identity_key
from services.identity.items import Event, Item
from services.identity.person import Person
from services.identity.sessions import GAP_MS
from services.identity.step import Forward, Merge, Resolved, decide
from tests.profiles import examples

MINUTE = 60_000


def event(number: int, user: str, anonymous: str, profile: str, minute: int) -> Event:
    at = identity_key(profile, user, anonymous, "")
    return Event(
        at,
        number.to_bytes(16),
        "acme",
        "shop",
        "page_view",
        minute * MINUTE,
        minute * MINUTE,
        user,
        anonymous,
        profile,
        "",
        wants_profile=True,
        wants_session=True,
        saved=True,
    )


class Workers:
    """Every identifier its own queue, served in an order that the test chooses; state is shared by key."""

    def __init__(self) -> None:
        self.queues: dict[str, deque[Item]] = defaultdict(deque)
        self.people: dict[tuple[str, str], Person] = {}
        self.erasures: dict[tuple[str, str], int] = {}
        self.resolved: dict[bytes, Resolved] = {}
        self.merges: list[Merge] = []

    def send(self, item: Item, at: str) -> None:
        self.queues[at].append(item)

    def serve(self, at: str) -> None:
        item = self.queues[at].popleft()
        decisions = decide([item], self.people, self.erasures)
        (outcome,) = decisions.outcomes
        if isinstance(outcome, Forward) and isinstance(item, Event):
            item.at = outcome.at
            self.send(item, outcome.at)
        elif isinstance(outcome, Resolved) and isinstance(item, Event):
            self.resolved[item.event_id] = outcome
        for link in decisions.links:
            self.send(link, link.at)
        self.merges += decisions.merges

    def waiting(self) -> list[str]:
        return sorted(at for at, queue in self.queues.items() if queue)

    def current(self, profile_id: str) -> str:
        """The profile after all merges; two hops reach the end of every chain."""
        into = {m.from_profile: m.into_profile for m in self.merges if not m.refused}
        for _ in range(2):
            profile_id = into.get(profile_id, profile_id)
        assert profile_id not in into, "merges are at most two deep and never go in a circle"
        return profile_id


IDS = {
    "user": st.sampled_from(["", "1", "2", "3"]),
    "anonymous": st.sampled_from(["", "x", "y", "z"]),
    "profile": st.sampled_from(["", "", "p", "q"]),
    "minute": st.integers(0, 300),
}
EVENTS = st.lists(st.fixed_dictionaries(IDS), min_size=1, max_size=25)


def run(sent: list[dict[str, str | int]], choices: st.DataObject) -> tuple[Workers, list[Event]]:
    workers = Workers()
    events = [event(number, **fields) for number, fields in enumerate(sent)]  # type: ignore[arg-type]
    for one in events:
        workers.send(one, one.at)
    while waiting := workers.waiting():
        workers.serve(choices.draw(st.sampled_from(waiting)))
    return workers, events


@examples(400)
@given(EVENTS, st.data())
def test_a_user_is_one_person_and_no_two_users_are_the_same(
    sent: list[dict[str, str | int]], choices: st.DataObject
) -> None:
    workers, events = run(sent, choices)
    profiles: dict[str, set[str]] = defaultdict(set)
    for one in events:
        resolved = workers.resolved[one.event_id]
        if one.user_id:
            profiles[one.user_id].add(workers.current(resolved.profile_id))
    assert all(len(own) == 1 for own in profiles.values())
    assert len(set.union(set(), *profiles.values())) == len(profiles)


@examples(400)
@given(EVENTS, st.data())
def test_every_event_is_resolved_once_and_anonymous_ones_follow_their_only_user(
    sent: list[dict[str, str | int]], choices: st.DataObject
) -> None:
    sent = [{**fields, "profile": ""} for fields in sent]
    workers, events = run(sent, choices)
    assert len(workers.resolved) == len(events)
    users: dict[str, set[str]] = defaultdict(set)
    current: dict[str, str] = {}
    for one in events:
        if one.user_id and one.anonymous_id:
            users[one.anonymous_id].add(one.user_id)
        if one.user_id:
            resolved = workers.resolved[one.event_id]
            current[one.user_id] = workers.current(resolved.profile_id)
    for one in events:
        if not one.user_id and len(users[one.anonymous_id]) == 1:
            (owner,) = users[one.anonymous_id]
            profile_id = workers.resolved[one.event_id].profile_id
            assert workers.current(profile_id) == current[owner]


@examples(300)
@given(EVENTS, st.data())
def test_a_refused_merge_is_recorded_only_where_two_users_met(
    sent: list[dict[str, str | int]], choices: st.DataObject
) -> None:
    workers, events = run(sent, choices)
    if len({one.user_id for one in events if one.user_id}) < 2:
        assert not [merge for merge in workers.merges if merge.refused]


@examples(300)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=30))
def test_segments_joined_by_the_gap_are_the_visits_whatever_the_order(minutes: list[int]) -> None:
    workers = Workers()
    for number, minute in enumerate(minutes):
        workers.send(event(number, "1", "", "", minute), "u:1")
        workers.serve("u:1")
    segments: dict[str, list[int]] = defaultdict(list)
    for number, minute in enumerate(minutes):
        segments[workers.resolved[number.to_bytes(16)].session_id].append(minute * MINUTE)
    joined, end = 0, None
    for first, last in sorted((min(times), max(times)) for times in segments.values()):
        joined += end is None or first - end > GAP_MS
        end = last if end is None else max(end, last)
    ordered = sorted(minutes)
    pairs = itertools.pairwise(ordered)
    truth = 1 + sum(later - earlier > 30 for earlier, later in pairs)
    assert joined == truth
