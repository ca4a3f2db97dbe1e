"""A public key cannot take over profiles or devices of others; a device belongs to its first owner."""

import msgspec
import pytest

from weir.core.identifiers import ProfileIds, identity_key, minted_profile_id
from weir.identity.decisions import Merge, Reroute, Resolved
from weir.identity.messages import IdentityEvent, Link
from weir.identity.person import Person
from weir.identity.snapshot import decode_person, encode_person
from weir.identity.step import People, decide

IDS = ProfileIds(b"salt", legacy=False)
OLD = ProfileIds(b"salt", legacy=True)
HOUR = 3_600_000


def event(number: int = 0, **fields: object) -> IdentityEvent:
    base = IdentityEvent(
        "", number.to_bytes(16), "acme", "shop", "view", 0, 0, "", "", "", "", True, True, True
    )
    made = msgspec.structs.replace(base, **fields)
    made.at = identity_key(
        made.client_profile_id, made.user_id, made.anonymous_id, made.client_session_id
    )
    return made


class World:
    """Identity with everything decided at once, in the order that it is sent."""

    def __init__(self, ids: ProfileIds = IDS, people: People | None = None) -> None:
        self.ids = ids
        self.people: People = {} if people is None else people
        self.into: dict[str, str] = {}
        self.conflicts: list[Merge] = []

    def send(self, item: IdentityEvent | Link) -> str:
        """The profile that an event was given; empty: none, or a link."""
        decisions = decide([item], self.people, None, self.ids)
        for merge in decisions.merges:
            if merge.refused:
                self.conflicts.append(merge)
            else:
                self.into[merge.from_profile] = merge.into_profile
        for link in decisions.links:
            self.send(link)
        (outcome,) = decisions.outcomes
        if isinstance(outcome, Reroute):
            item.at = outcome.at
            return self.send(item)
        return outcome.profile_id if isinstance(outcome, Resolved) else ""

    def current(self, profile_id: str) -> str:
        while profile_id in self.into:
            profile_id = self.into[profile_id]
        return profile_id

    def person(self, *at: str) -> set[str]:
        """The people that these identifiers are."""
        return {self.current(self.people["acme", one].profile_id) for one in at}


def test_a_public_key_cannot_merge_people_by_sending_a_minted_profile_id() -> None:
    world = World()
    known = {user: world.send(event(user_id=user)) for user in ("alice", "bob")}
    for profile_id in known.values():
        own = world.send(event(user_id="mallory", client_profile_id=profile_id, public=True))
        assert own == IDS.mint("acme", "u:mallory")
    assert len(world.person("u:alice", "u:bob", "u:mallory")) == 3
    assert world.into == {}
    assert [one.from_profile for one in world.conflicts] == list(known.values())
    assert world.conflicts[0].detail.endswith("a public key may not claim it for u:mallory")


@pytest.mark.parametrize(
    ("further", "expected"),
    [
        ({"anonymous_id": "own"}, IDS.mint("acme", "a:own")),
        ({"client_session_id": "own"}, IDS.mint("acme", "s:own")),
        ({}, ""),
    ],
)
def test_an_event_with_a_foreign_profile_id_resolves_by_its_other_identifiers(
    further: dict[str, object], expected: str
) -> None:
    world = World()
    alices = world.send(event(user_id="alice"))
    assert world.send(event(0, client_profile_id=alices, public=True, **further)) == expected
    assert world.people["acme", "u:alice"].events == 1
    assert len(world.conflicts) == 1


def test_a_public_key_cannot_use_a_profile_id_created_by_a_secret_key() -> None:
    world = World()
    assert world.send(event(client_profile_id="customer-1")) == "customer-1"
    assert world.send(event(client_profile_id="customer-1", public=True)) == ""
    own = world.send(event(client_profile_id="customer-1", user_id="mallory", public=True))
    assert own == IDS.mint("acme", "u:mallory")
    assert world.person("p:customer-1") == {"customer-1"}


def test_a_browser_keeps_its_own_profile_id_through_login() -> None:
    world = World()
    assert world.send(event(client_profile_id="mine", public=True)) == "mine"
    assert world.send(event(client_profile_id="mine", user_id="ada", public=True)) == "mine"
    assert world.send(event(client_profile_id="mine", public=True)) == "mine"
    world.send(event(user_id="ada", public=True))
    assert world.person("p:mine", "u:ada") == {IDS.mint("acme", "u:ada")}
    assert world.conflicts == []


def test_a_login_in_a_browser_merges_its_anonymous_past_into_the_user() -> None:
    world = World()
    world.send(event(anonymous_id="x", public=True))
    world.send(event(anonymous_id="x", user_id="ada", public=True))
    assert world.person("a:x") == world.person("u:ada")
    assert world.conflicts == []


def test_a_public_key_cannot_move_an_owned_device_to_another_user() -> None:
    world = World()
    world.send(event(1, anonymous_id="x", user_id="ada", occurred_at=HOUR, received_at=HOUR))
    for number, at in enumerate((0, 2 * HOUR)):
        world.send(
            event(
                2 + number,
                anonymous_id="x",
                user_id="mallory",
                public=True,
                occurred_at=at,
                received_at=3 * HOUR,
            )
        )
    assert world.person("a:x") == world.person("u:ada")
    assert {one.refused for one in world.conflicts} == {True}
    assert "a:x belongs to u:ada, not to u:mallory" in world.conflicts[0].detail


def test_a_public_key_cannot_take_a_profile_by_its_device_but_a_secret_key_can() -> None:
    world = World()
    world.send(event(client_profile_id="customer-1", anonymous_id="x"))
    world.send(event(anonymous_id="x", user_id="mallory", public=True))
    assert world.person("a:x", "p:customer-1") == {"customer-1"}
    assert len(world.conflicts) == 1
    world.send(event(9, anonymous_id="x", user_id="ada"))  # a secret key may
    assert world.person("a:x", "p:customer-1") == world.person("u:ada")


def test_a_minted_profile_id_of_the_events_own_user_is_no_conflict() -> None:
    world = World()
    own = world.send(event(user_id="ada"))
    assert world.send(event(user_id="ada", client_profile_id=own, public=True)) == own
    assert world.conflicts == []


def test_a_secret_key_cannot_merge_two_users_by_a_minted_profile_id() -> None:
    world = World()
    adas = world.send(event(user_id="ada"))
    assert world.send(event(client_profile_id=adas)) == adas
    assert world.send(event(user_id="bob", client_profile_id=adas)) != adas
    assert len(world.person("u:ada", "u:bob")) == 2
    assert len(world.conflicts) == 1


def test_a_device_belongs_to_the_earliest_login_by_event_time_in_any_order() -> None:
    world = World()
    past = world.send(event(1, anonymous_id="x", occurred_at=HOUR, received_at=9 * HOUR))
    times = {"late": 3 * HOUR, "first": 2 * HOUR, "later": 4 * HOUR}
    for number, (user, at) in enumerate(times.items()):
        world.send(
            event(2 + number, anonymous_id="x", user_id=user, occurred_at=at, received_at=9 * HOUR)
        )
    assert {world.current(past)} == world.person("u:first")
    assert len(world.person("u:late", "u:first", "u:later")) == 3
    assert [one.into_profile for one in world.conflicts] == [
        IDS.mint("acme", "u:late"),
        IDS.mint("acme", "u:later"),
    ]


def test_an_earlier_login_found_later_gives_the_device_back_to_its_user() -> None:
    world = World()
    for number, (user, at) in enumerate((("ada", 9), ("bob", 5), ("ada", 3))):
        world.send(event(number, anonymous_id="x", user_id=user, occurred_at=at, received_at=10))
    assert world.person("a:x") == world.person("u:ada")


class OldMemory(msgspec.Struct, array_like=True):
    """As versions before claims wrote it."""

    linked: list[str] = []
    recent_sessions: list[str] = []
    versions_before: int = 0


def of_before(at: str, profile_id: str, owner: str = "", linked: tuple[str, ...] = ()) -> Person:
    """A person as an earlier version has left it in the store."""
    person = Person("acme", at, profile_id, owner, events=3, version=4)
    value = encode_person(person)
    memory = msgspec.msgpack.encode(person.memory)
    no_times = b"\0\0"
    assert value.endswith(memory + no_times)
    old = msgspec.msgpack.encode(OldMemory(list(linked)))
    prefix = value[: -len(memory) - 1 - len(no_times)]
    return decode_person(prefix + bytes([len(old) << 1]) + old + no_times)


def test_people_stored_by_an_earlier_version_keep_their_profile_ids_and_devices() -> None:
    adas = minted_profile_id("acme", "u:ada")
    people = [
        of_before("u:ada", adas, linked=("a:x\0u:ada",)),
        of_before("a:x", adas, "u:ada"),
        of_before("a:y", minted_profile_id("acme", "a:y")),
        of_before("p:mine", "mine"),
    ]
    world = World(OLD, {("acme", one.identity_key): one for one in people})
    assert world.send(event(user_id="ada")) == adas
    assert world.send(event(anonymous_id="x", public=True)) == adas
    assert world.send(event(client_profile_id="mine", public=True)) == "mine"
    assert world.send(event(anonymous_id="y")) == minted_profile_id("acme", "a:y")
    world.send(event(anonymous_id="x", user_id="bob", occurred_at=-HOUR))
    assert world.person("a:x") == {adas}
    world.send(event(anonymous_id="y", user_id="ada"))
    assert world.person("a:y") == {adas}
    assert world.send(event(user_id="new")) == OLD.mint("acme", "u:new")


def test_a_public_key_cannot_claim_an_unsalted_profile_id() -> None:
    adas = minted_profile_id("acme", "u:ada")
    world = World(OLD, {("acme", "u:ada"): of_before("u:ada", adas)})
    own = world.send(event(user_id="mallory", client_profile_id=adas, public=True))
    assert own == OLD.mint("acme", "u:mallory")
    assert world.person("u:ada") == {adas}
    assert len(world.conflicts) == 1
