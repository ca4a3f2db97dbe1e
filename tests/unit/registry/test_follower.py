"""The registry's in-memory copies of sources, keys and goals each apply only their own entries."""

import pytest

from weir.adapters import avro
from weir.adapters.errors import UnavailableError
from weir.core.registry import ApiKey, Goal, Quota, Source
from weir.registry.follower import (
    Goals,
    Keys,
    Sources,
    goal_entry,
    key_entry,
    read_sources_and_keys,
    registry_key,
    source_entry,
)
from weir.settings.shared import KafkaSettings


def goal(number: int, site: str = "shop", value: str = "signup") -> Goal:
    return Goal(
        id=f"00000000-0000-4000-8000-{number:012}",
        site_id=site,
        name="Signup",
        type="event",
        value=value,
        created_at=f"2026-01-{number:02}T00:00:00Z",
    )


def test_goals_are_kept_per_site_oldest_first() -> None:
    goals = Goals()
    for made in (goal(2), goal(1), goal(3, "blog")):
        goals.apply(*goal_entry(made))
    assert goals.of("shop") == [goal(1), goal(2)]
    assert goals.of("blog") == [goal(3, "blog")]
    assert goals.of("elsewhere") == []


def test_deleting_a_goal_removes_it_and_may_be_repeated() -> None:
    goals = Goals()
    key, value = goal_entry(goal(1))
    goals.apply(key, value)
    goals.apply(key, None)
    goals.apply(key, None)
    assert goals.of("shop") == []


def test_an_unreadable_entry_leaves_the_previous_one_in_force() -> None:
    goals = Goals()
    key, value = goal_entry(goal(1))
    goals.apply(key, value)
    record = {"kind": "goal", "id": "x", "document": '{"id": "x", "colour": 1}', "updated_at": 0}
    goals.apply(key, avro.schemas()["RegistryEntry"].encode(record))
    assert goals.of("shop") == [goal(1)]


def test_a_source_entry_with_an_unknown_quota_unit_is_ignored_and_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sources = Sources()
    quota = Quota(name="daily", period="day", limit=10)
    key, value = source_entry(Source(id="shop", quotas=(quota,)))
    sources.apply(key, value)
    document = (
        '{"id": "shop", "quotas": [{"name": "x", "period": "day", "unit": "people", "limit": 1}]}'
    )
    record = {"kind": "source", "id": "shop", "document": document, "updated_at": 0}
    sources.apply(key, avro.schemas()["RegistryEntry"].encode(record))
    assert sources.by_id["shop"].quotas == (quota,)
    output = capsys.readouterr()
    assert "not understood" in output.out + output.err
    assert "people" in output.out + output.err


def test_sources_ignore_goal_entries_and_goals_ignore_source_entries() -> None:
    goals, sources = Goals(), Sources()
    sources.apply(*goal_entry(goal(1)))
    record = {"kind": "source", "id": "shop", "document": '{"id": "shop"}', "updated_at": 0}
    entry = registry_key("source", "shop"), avro.schemas()["RegistryEntry"].encode(record)
    goals.apply(*entry)
    assert (sources.by_id, goals.of("shop")) == ({}, [])
    sources.apply(*entry)
    assert sources.by_id == {"shop": Source(id="shop")}


def test_key_changes_are_reported_for_the_source_of_added_and_removed_keys() -> None:
    keys, sources, goals = Keys(), Sources(), Goals()
    made = ApiKey(digest="d", source="shop", scope="read", created_at=1)
    entry, value = key_entry(made)
    for one in (keys, sources, goals):
        one.apply(entry, value)
    assert (keys.of("shop"), keys.of("blog"), keys.take_changed()) == ([made], [], {"shop"})
    assert (sources.by_id, goals.of("shop")) == ({}, [])
    keys.apply(*goal_entry(goal(1)))
    assert keys.take_changed() == set()
    keys.apply(entry, None)
    keys.apply(entry, None)
    assert (keys.of("shop"), keys.take_changed()) == ([], {"shop"})


def test_an_unreachable_registry_raises_unavailable_error() -> None:
    nobody = KafkaSettings(kafka_bootstrap="127.0.0.1:1", kafka_options={"log_level": "0"})
    with pytest.raises(UnavailableError, match="The registry cannot be read"):
        read_sources_and_keys(nobody, 0.5)
