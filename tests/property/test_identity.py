"""Identity never mixes people and leaves each person whole, for any events in any interleaving."""

import itertools
from collections import defaultdict, deque

from hypothesis import given
from hypothesis import strategies as st

from tests.support.profiles import examples
from weir.core.identifiers import ProfileIds, identity_key
from weir.core.registry import SESSION_GAP_SECONDS
from weir.identity.decisions import Merge, Reroute, Resolved
from weir.identity.messages import IdentityEvent, Item
from weir.identity.person import Person
from weir.identity.step import decide

MINUTE = 60_000
IDS = ProfileIds(b"a salt", legacy=False)


def event(
    number: int,
    user: str,
    anonymous: str,
    profile: str,
    minute: int,
    public: bool = False,
    received: int | None = None,
) -> IdentityEvent:
    at = identity_key(profile, user, anonymous, "")
    return IdentityEvent(
        at,
        number.to_bytes(16),
        "acme",
        "shop",
        "page_view",
        minute * MINUTE,
        (minute if received is None else received) * MINUTE,
        user,
        anonymous,
        profile,
        "",
        wants_profile=True,
        wants_session=True,
        saved=True,
        public=public,
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
        decisions = decide([item], self.people, self.erasures, IDS)
        (outcome,) = decisions.outcomes
        if isinstance(outcome, Reroute) and isinstance(item, IdentityEvent):
            item.at = outcome.at
            self.send(item, outcome.at)
        elif isinstance(outcome, Resolved) and isinstance(item, IdentityEvent):
            self.resolved[item.event_id] = outcome
        for link in decisions.links:
            self.send(link, link.at)
        self.merges += decisions.merges

    def waiting(self) -> list[str]:
        return sorted(at for at, queue in self.queues.items() if queue)

    def current(self, profile_id: str) -> str:
        """The profile after all merges, the latest of each; two hops reach the end of every chain."""
        into = {m.from_profile: m.into_profile for m in self.merges if not m.refused}
        for _ in range(2):
            profile_id = into.get(profile_id, profile_id)
        assert profile_id not in into, "merges are at most two deep and never go in a circle"
        return profile_id


FIELDS = {
    "user": st.sampled_from(["", "1", "2", "3"]),
    "anonymous": st.sampled_from(["", "x", "y", "z"]),
    "profile": st.sampled_from(["", "", "p", "q"]),
    "minute": st.integers(0, 300),
}
EVENTS = st.lists(st.fixed_dictionaries(FIELDS), min_size=1, max_size=25)
# Of both kinds of sender; of profile ids also those that were minted for somebody.
MINTED = [IDS.mint("acme", at) for at in ("u:1", "u:2", "a:x", "a:y")]
MIXED = st.lists(
    st.fixed_dictionaries(
        {
            **FIELDS,
            "profile": st.sampled_from(["", "", "p", "q", *MINTED]),
            "public": st.booleans(),
        }
    ),
    min_size=1,
    max_size=25,
)


def run(
    sent: list[dict[str, str | int]], choices: st.DataObject
) -> tuple[Workers, list[IdentityEvent]]:
    workers = Workers()
    events = [event(number, **fields) for number, fields in enumerate(sent)]  # type: ignore[arg-type]
    serve(workers, events, choices)
    return workers, events


def serve(workers: Workers, events: list[IdentityEvent], choices: st.DataObject) -> None:
    for one in events:
        workers.send(one, one.at)
    while waiting := workers.waiting():
        workers.serve(choices.draw(st.sampled_from(waiting)))


@examples(200)
@given(EVENTS, st.data())
def test_each_user_has_one_profile_and_no_two_users_share_one(
    sent: list[dict[str, str | int]], choices: st.DataObject
) -> None:
    check_users(*run(sent, choices))


def check_users(workers: Workers, events: list[IdentityEvent]) -> None:
    profiles: dict[str, set[str]] = defaultdict(set)
    for one in events:
        resolved = workers.resolved[one.event_id]
        if one.user_id:
            profiles[one.user_id].add(workers.current(resolved.profile_id))
    assert all(len(own) == 1 for own in profiles.values())
    assert len(set.union(set(), *profiles.values())) == len(profiles)


@examples(200)
@given(EVENTS, st.data())
def test_each_event_resolves_once_and_anonymous_events_follow_their_only_user(
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


@examples(200)
@given(MIXED, st.data())
def test_no_two_users_share_a_profile_given_public_keys_and_minted_ids(
    sent: list[dict[str, str | int]], choices: st.DataObject
) -> None:
    check_users(*run(sent, choices))


@examples(200)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "user": st.sampled_from(["", "1", "2", "3"]),
                "anonymous": st.sampled_from(["", "x", "y"]),
                "minute": st.integers(0, 20),
                "received": st.integers(20, 23),
                "public": st.booleans(),
            }
        ),
        min_size=1,
        max_size=20,
    ),
    st.data(),
)
def test_a_devices_anonymous_events_belong_to_its_first_owner_in_any_order(
    sent: list[dict[str, str | int]], choices: st.DataObject
) -> None:
    workers, events = run([{**fields, "profile": ""} for fields in sent], choices)
    of_users = {
        one.user_id: workers.current(workers.resolved[one.event_id].profile_id)
        for one in events
        if one.user_id
    }
    for one in events:
        logins = [e for e in events if e.user_id and e.anonymous_id == one.anonymous_id]
        if one.user_id or not one.anonymous_id or not logins:
            continue
        # a public key's word counts from its receipt on: it cannot be the first by its own account
        first = min(
            logins,
            key=lambda e: (e.received_at if e.public else e.occurred_at, e.occurred_at, e.event_id),
        )
        profile_id = workers.resolved[one.event_id].profile_id
        assert workers.current(profile_id) == of_users[first.user_id]


KNOWN = st.lists(st.fixed_dictionaries(FIELDS), min_size=1, max_size=12)
CLAIMS = st.lists(
    st.fixed_dictionaries(
        {
            "user": st.sampled_from(["", "mallory", "1", "2"]),
            "anonymous": st.sampled_from(["", "x", "y", "z", "own"]),
            "profile": st.sampled_from(["", "p", "q", "own", *MINTED]),
            "minute": st.integers(-300, 400),
        }
    ),
    min_size=1,
    max_size=12,
)


@examples(300)
@given(KNOWN, CLAIMS, st.data())
def test_events_with_a_public_key_move_no_known_user_to_another_profile(
    known: list[dict[str, str | int]], claims: list[dict[str, str | int]], choices: st.DataObject
) -> None:
    workers, events = run(known, choices)
    users = {
        workers.current(workers.resolved[one.event_id].profile_id) for one in events if one.user_id
    }
    before = {
        one.event_id: workers.current(workers.resolved[one.event_id].profile_id) for one in events
    }
    late = [
        event(1_000 + number, public=True, received=500, **fields)  # type: ignore[arg-type]
        for number, fields in enumerate(claims)
    ]
    serve(workers, late, choices)
    for event_id, profile_id in before.items():
        if profile_id in users:
            assert workers.current(workers.resolved[event_id].profile_id) == profile_id
    for one in late:
        if one.user_id == "mallory":
            assert workers.current(workers.resolved[one.event_id].profile_id) not in users
        elif one.client_profile_id in ("p", "q", *MINTED) and not one.user_id:
            # known ids that others brought, and ours: who sends them back is not taken for their person
            named = workers.resolved[one.event_id].profile_id
            assert named != one.client_profile_id or ("acme", "p:" + named) not in trusted(events)


def trusted(events: list[IdentityEvent]) -> set[tuple[str, str]]:
    """Profiles that events with a secret key had named."""
    return {("acme", "p:" + one.client_profile_id) for one in events if one.client_profile_id}


@examples(300)
@given(EVENTS, st.data())
def test_a_refused_merge_is_recorded_only_when_there_are_two_users(
    sent: list[dict[str, str | int]], choices: st.DataObject
) -> None:
    workers, events = run(sent, choices)
    if len({one.user_id for one in events if one.user_id}) < 2:
        assert not [merge for merge in workers.merges if merge.refused]


@examples(300)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=30))
def test_session_segments_joined_by_the_gap_give_the_true_visits_in_any_order(
    minutes: list[int],
) -> None:
    workers = Workers()
    for number, minute in enumerate(minutes):
        workers.send(event(number, "1", "", "", minute), "u:1")
        workers.serve("u:1")
    segments: dict[str, list[int]] = defaultdict(list)
    for number, minute in enumerate(minutes):
        segments[workers.resolved[number.to_bytes(16)].session_id].append(minute * MINUTE)
    joined, end = 0, None
    for first, last in sorted((min(times), max(times)) for times in segments.values()):
        joined += end is None or first - end > SESSION_GAP_SECONDS * 1_000
        end = last if end is None else max(end, last)
    ordered = sorted(minutes)
    pairs = itertools.pairwise(ordered)
    truth = 1 + sum(later - earlier > 30 for earlier, later in pairs)
    assert joined == truth
