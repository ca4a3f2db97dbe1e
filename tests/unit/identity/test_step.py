"""Identity decides profiles, sessions, links, merges and traits."""

import msgspec

from weir.core.identifiers import identity_key, minted_profile_id
from weir.identity.decisions import Decisions, Reroute, Resolved, Unsaved
from weir.identity.messages import IdentityEvent, Link
from weir.identity.person import RECENT_SESSIONS, Person
from weir.identity.step import decide

MINUTE = 60_000
People = dict[tuple[str, str], Person]


def event(**fields: object) -> IdentityEvent:
    base = IdentityEvent(
        "", b"e" * 16, "acme", "shop", "view", 0, 0, "", "", "", "", True, True, True
    )
    made = msgspec.structs.replace(base, **fields)
    made.at = fields.get("at") or identity_key(  # type: ignore[assignment]
        made.client_profile_id, made.user_id, made.anonymous_id, made.client_session_id
    )
    return made


def resolved(decisions: Decisions) -> list[Resolved]:
    return [outcome for outcome in decisions.outcomes if isinstance(outcome, Resolved)]


def test_an_identifier_resolves_to_the_same_profile_at_every_replay() -> None:
    (first,) = resolved(decide([event(user_id="7")], {}))
    (again,) = resolved(decide([event(user_id="7")], {}))
    assert first == again
    assert first.profile_id == minted_profile_id("acme", "u:7")


def test_workspaces_do_not_share_people() -> None:
    people: People = {}
    here, there = resolved(
        decide([event(user_id="7"), event(user_id="7", workspace="other")], people)
    )
    assert here.profile_id != there.profile_id


def test_the_clients_profile_id_is_kept() -> None:
    (one,) = resolved(decide([event(client_profile_id="mine", user_id="7")], {}))
    assert one.profile_id == "mine"


def test_an_anonymous_profile_is_merged_into_the_user_at_login() -> None:
    people: People = {}
    decide([event(anonymous_id="x")], people)
    login = decide([event(anonymous_id="x", user_id="7")], people)
    (link,) = login.links
    assert (link.at, link.owner) == ("a:x", "u:7")
    (merge,) = decide([link], people).merges
    assert merge.from_profile == minted_profile_id("acme", "a:x")
    assert merge.into_profile == minted_profile_id("acme", "u:7")
    (later,) = resolved(decide([event(anonymous_id="x")], people))
    assert later.profile_id == merge.from_profile  # and that is part of the user's


def test_a_link_is_sent_once() -> None:
    people: People = {}
    both = event(anonymous_id="x", user_id="7")
    assert len(decide([both, both], people).links) == 1
    assert decide([both], people).links == []


def test_a_device_of_a_user_is_not_merged_into_the_next_user() -> None:
    people: People = {}
    for user in ("7", "8"):
        for link in decide([event(anonymous_id="x", user_id=user)], people).links:
            decisions = decide([link], people)
    (conflict,) = decisions.merges
    assert conflict.refused
    assert "belongs to u:7, not to u:8" in conflict.detail
    assert people[("acme", "a:x")].owner == "u:7"


def test_an_event_with_another_users_profile_id_is_rerouted_to_its_own_user() -> None:
    people: People = {}
    decide([event(client_profile_id="mine", user_id="7")], people)
    decisions = decide([event(client_profile_id="mine", user_id="8")], people)
    assert decisions.outcomes == [Reroute("u:8")]
    assert decisions.merges[0].refused
    (theirs,) = resolved(decide([event(at="u:8", client_profile_id="mine", user_id="8")], people))
    assert theirs.profile_id == minted_profile_id("acme", "u:8")


def test_an_event_that_wants_no_profile_keeps_only_its_own_session_id() -> None:
    people: People = {}
    webhook = event(wants_profile=False, wants_session=False)
    profile_less = event(wants_profile=False, client_session_id="s")
    assert resolved(decide([webhook, profile_less], people)) == [
        Resolved("", ""),
        Resolved("", "s"),
    ]
    assert people == {}


def test_an_unsaved_event_still_updates_its_person() -> None:
    people: People = {}
    (outcome,) = decide([event(user_id="7", saved=False)], people).outcomes
    assert isinstance(outcome, Unsaved)
    assert people[("acme", "u:7")].events == 1


def test_the_clients_session_id_is_kept_and_a_gap_over_30_minutes_starts_another() -> None:
    times = [0, 30 * MINUTE, 60 * MINUTE + 1]
    own = resolved(decide([event(user_id="7", client_session_id="s")], {}))
    ids = [
        one.session_id
        for one in resolved(decide([event(user_id="7", occurred_at=at) for at in times], {}))
    ]
    assert own[0].session_id == "s"
    assert ids[0] == ids[1] != ids[2]


def test_a_late_event_joins_the_session_of_its_time() -> None:
    times = [0, 100 * MINUTE, 20 * MINUTE, 110 * MINUTE]
    first, second, late, next_ = (
        one.session_id
        for one in resolved(decide([event(user_id="7", occurred_at=at) for at in times], {}))
    )
    assert late == first
    assert next_ == second


def test_each_source_has_its_own_sessions() -> None:
    shop, blog = resolved(decide([event(user_id="7"), event(user_id="7", source="blog")], {}))
    assert shop.session_id != blog.session_id


def test_a_person_keeps_a_limited_number_of_recent_sessions() -> None:
    people: People = {}
    decide([event(user_id="7", occurred_at=at * 60 * MINUTE) for at in range(100)], people)
    person = people[("acme", "u:7")]
    assert len(person.recent_sessions) == RECENT_SESSIONS
    assert (person.events, person.sessions) == (100, 100)


def test_the_trait_with_the_latest_event_time_wins() -> None:
    def identify(at: int, text: str) -> IdentityEvent:
        traits = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        return event(user_id="7", name="$identify", occurred_at=at, traits=traits)

    people: People = {}
    decide([identify(10, '{"plan": "pro", "city": "Oslo"}')], people)
    decide([identify(5, '{"plan": "free", "age": 30}')], people)
    decide([identify(20, '{"city": "Bergen"}')], people)
    traits = msgspec.json.decode(people[("acme", "u:7")].traits)
    assert traits == {"plan": "pro", "city": "Bergen", "age": 30}


def test_a_link_gives_a_new_user_the_clients_profile_without_a_merge() -> None:
    people: People = {}
    (link,) = decide([event(client_profile_id="mine", user_id="7")], people).links
    assert isinstance(link, Link)
    assert decide([link], people).merges == []
    (later,) = resolved(decide([event(user_id="7")], people))
    assert later.profile_id == "mine"
