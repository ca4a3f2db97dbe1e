"""The registry's copies in memory: sources and goals keep to their own entries."""

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


def test_goals_are_kept_by_site_the_oldest_first() -> None:
    goals = Goals()
    for made in (goal(2), goal(1), goal(3, "blog")):
        goals.apply(*goal_entry(made))
    assert goals.of("shop") == [goal(1), goal(2)]
    assert goals.of("blog") == [goal(3, "blog")]
    assert goals.of("elsewhere") == []


def test_a_deleted_goal_is_gone_and_may_be_deleted_again() -> None:
    goals = Goals()
    key, value = goal_entry(goal(1))
    goals.apply(key, value)
    goals.apply(key, None)
    goals.apply(key, None)
    assert goals.of("shop") == []


def test_an_entry_not_understood_leaves_the_one_before_it_in_force() -> None:
    goals = Goals()
    key, value = goal_entry(goal(1))
    goals.apply(key, value)
    record = {"kind": "goal", "id": "x", "document": '{"id": "x", "colour": 1}', "updated_at": 0}
    goals.apply(key, avro.schemas()["RegistryEntry"].encode(record))
    assert goals.of("shop") == [goal(1)]


def test_a_quota_whose_unit_is_not_known_is_refused_and_counts_as_nothing_else(
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


def test_sources_and_goals_do_not_see_each_other() -> None:
    goals, sources = Goals(), Sources()
    sources.apply(*goal_entry(goal(1)))
    record = {"kind": "source", "id": "shop", "document": '{"id": "shop"}', "updated_at": 0}
    entry = registry_key("source", "shop"), avro.schemas()["RegistryEntry"].encode(record)
    goals.apply(*entry)
    assert (sources.by_id, goals.of("shop")) == ({}, [])
    sources.apply(*entry)
    assert sources.by_id == {"shop": Source(id="shop")}


def test_keys_tell_whose_they_are_and_whose_they_were() -> None:
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


def test_a_registry_that_cannot_be_read_is_said_in_a_sentence() -> None:
    nobody = KafkaSettings(kafka_bootstrap="127.0.0.1:1", kafka_options={"log_level": "0"})
    with pytest.raises(UnavailableError, match="The registry cannot be read"):
        read_sources_and_keys(nobody, 0.5)
