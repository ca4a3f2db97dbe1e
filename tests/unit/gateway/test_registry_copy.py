"""The gateway's registry copy applies source, key and usage entries and decides access and quotas."""

from typing import Any

import msgspec
import pytest

from weir.adapters import avro
from weir.core.registry import ApiKey, Quota, Source, hash_key
from weir.gateway.http.error_codes import Problem
from weir.gateway.registry_copy import Registry
from weir.registry.follower import key_entry, registry_key
from weir.registry.secret_encryption import SecretEncryption, new_key

HOUR = 3_600_000
NOW = 1_760_011_200_000


def source_entry(source: Source) -> tuple[bytes, bytes]:
    record = {
        "kind": "source",
        "id": source.id,
        "document": msgspec.json.encode(source).decode(),
        "updated_at": NOW,
    }
    return registry_key("source", source.id), avro.schemas()["RegistryEntry"].encode(record)


def usage_entry(source: str, **fields: Any) -> tuple[bytes, bytes]:
    use = {
        "name": "plan",
        "period": "hour",
        "unit": "events",
        "limit": 10,
        "used": 10,
        "action": "reject",
        "exceeded": True,
        "resets_at": NOW + HOUR,
        **fields,
    }
    record = {
        "source": source,
        "updated_at": NOW,
        "windows": [],
        "quotas": [use],
        "current_rate": 0.0,
        "peak_rate": 0.0,
        "peak_at": 0,
        "recent_seconds": [],
    }
    return source.encode(), avro.schemas()["SourceUsage"].encode(record)


def shop(**fields: Any) -> Source:
    return Source(id="shop", write_key_hashes=(hash_key("k1"), hash_key("k2")), **fields)


def registry_of(*sources: Source) -> Registry:
    registry = Registry()
    registry.apply_sources([source_entry(source) for source in sources])
    return registry


def refuses(registry: Registry, now: int = NOW) -> bool:
    return registry.by_id["shop"].exceeded_at(now)[0] is not None


PLAN = Quota(name="plan", period="hour", limit=10)


def test_every_write_key_finds_its_source_until_the_key_or_source_is_removed() -> None:
    registry = registry_of(shop())
    assert not Registry().loaded
    assert registry.loaded
    for key in ("k1", "k2"):
        found = registry.find(key)
        assert found is not None
        assert found.source.id == "shop"
    assert registry.find("k3") is None
    registry.apply_sources([source_entry(Source(id="shop", write_key_hashes=(hash_key("k2"),)))])
    assert registry.find("k1") is None
    assert registry.find("k2") is not None
    registry.apply_sources([(registry_key("source", "shop"), None)])
    assert registry.find("k2") is None


def test_a_disabled_source_is_found_by_no_key_and_no_origin() -> None:
    registry = registry_of(shop(enabled=False, allowed_origins=("https://a",)))
    assert registry.find("k1") is None
    assert not registry.knows_origin("https://a")


@pytest.mark.parametrize(
    "origin", ["https://a.example", "http://a.example:8080", "https://www.A.example"]
)
def test_pages_of_a_sources_site_are_allowed_origins(origin: str) -> None:
    registry = registry_of(shop(sites=("a.example",)), Source(id="b"))
    assert registry.knows_origin(origin)
    assert registry.by_id["shop"].allows(origin)
    assert not registry.by_id["b"].allows(origin)


@pytest.mark.parametrize("origin", ["https://b.a.example", "ftp://a.example", "a.example", "null"])
def test_pages_of_other_hosts_or_schemes_are_not_allowed_origins(origin: str) -> None:
    registry = registry_of(shop(sites=("a.example",)))
    assert not registry.knows_origin(origin)
    assert not registry.by_id["shop"].allows(origin)


def test_the_registry_knows_the_allowed_origins_of_every_source() -> None:
    registry = registry_of(shop(allowed_origins=("https://a",)), Source(id="b"))
    assert registry.knows_origin("https://a")
    assert not registry.knows_origin("https://b")
    assert registry_of(shop(allowed_origins=("*",))).knows_origin("https://b")


def test_a_source_without_usage_is_not_refused() -> None:
    assert not refuses(registry_of(shop(quotas=(PLAN,))))


def test_a_used_up_quota_refuses_until_its_period_ends() -> None:
    registry = registry_of(shop(quotas=(PLAN,)))
    registry.apply_usage([usage_entry("shop")])
    assert refuses(registry)
    assert refuses(registry, NOW + HOUR - 1)
    assert not refuses(registry, NOW + HOUR)
    registry.apply_usage([usage_entry("shop", used=9)])
    assert not refuses(registry)
    registry.apply_usage([usage_entry("shop"), (b"shop", None)])
    assert not refuses(registry)  # nothing known: open


def test_usage_that_arrives_before_its_source_is_applied() -> None:
    registry = Registry()
    registry.apply_usage([usage_entry("shop")])
    registry.apply_sources([source_entry(shop(quotas=(PLAN,)))])
    assert refuses(registry)


def test_usage_of_a_quota_that_has_since_changed_does_not_refuse() -> None:
    registry = registry_of(shop(quotas=(PLAN,)))
    registry.apply_usage([usage_entry("shop")])
    for changed in (
        (Quota(name="plan", period="hour", limit=11),),
        (Quota(name="plan", period="day", limit=10),),
        (Quota(name="plan", period="hour", unit="bytes", limit=10),),
        (Quota(name="other", period="hour", limit=10),),
        (),
    ):
        registry.apply_sources([source_entry(shop(quotas=changed))])
        assert not refuses(registry)
    registry.apply_sources([source_entry(shop(quotas=(PLAN,)))])
    assert refuses(registry)


def test_a_used_up_quota_with_action_mark_marks_events_without_refusing() -> None:
    mark = Quota(name="plan", period="hour", limit=10, action="mark")
    registry = registry_of(shop(quotas=(mark,)))
    registry.apply_usage([usage_entry("shop")])
    assert registry.by_id["shop"].exceeded_at(NOW) == (None, 0, True)
    assert registry.by_id["shop"].exceeded_at(NOW + HOUR) == (None, 0, False)


def test_a_rate_bucket_is_kept_until_the_sources_rate_changes() -> None:
    registry = registry_of(shop(events_per_second=5.0))
    bucket = registry.by_id["shop"].bucket
    registry.apply_sources([source_entry(shop(events_per_second=5.0, quotas=(PLAN,)))])
    assert registry.by_id["shop"].bucket is bucket
    registry.apply_sources([source_entry(shop(events_per_second=6.0))])
    assert registry.by_id["shop"].bucket is not bucket
    registry.apply_sources([source_entry(shop())])
    assert registry.by_id["shop"].bucket is None


def made(plain: str, **fields: Any) -> ApiKey:
    values = {"source": "shop", "scope": "write", "created_at": NOW, **fields}
    return ApiKey(digest=hash_key(plain), **values)


def test_an_api_key_finds_its_source_whichever_entry_arrives_first() -> None:
    entries = [key_entry(made("w")), source_entry(shop())]
    for order in (entries, entries[::-1]):
        registry = Registry()
        for entry in order:
            registry.apply_sources([entry])
        assert registry.find("w") is registry.find("k1") is registry.by_id["shop"]
    registry.apply_sources([(key_entry(made("w"))[0], None)])
    assert registry.find("w") is None
    assert registry.find("k1") is not None


def test_an_api_key_remains_valid_when_its_source_changes() -> None:
    registry = registry_of(shop())
    registry.apply_sources([key_entry(made("w"))])
    registry.apply_sources([source_entry(shop(kind="browser"))])
    assert registry.find("w") is not None


def test_an_api_key_is_valid_only_for_its_scope() -> None:
    registry = registry_of(shop())
    registry.apply_sources(
        [key_entry(made("r", scope="read")), key_entry(made("a", scope="admin"))]
    )
    source = registry.by_id["shop"].source
    assert (registry.find("r"), registry.find("a")) == (None, None)
    assert source.read_key_hashes == (hash_key("r"),)
    assert source.admin_key_hashes == (hash_key("a"),)


def test_an_expired_api_key_is_refused_and_the_refusal_says_when_it_ended() -> None:
    now = [NOW]
    registry = Registry(clock=lambda: now[0])
    entries = [key_entry(made("one", ends_at=NOW + 1)), key_entry(made("two", ends_at=NOW + 2))]
    registry.apply_sources([source_entry(shop()), *entries])
    unknown = Problem("unauthorized", "Send it.")
    assert registry.find("one") is not None
    assert registry.explained("one", unknown) is unknown
    for later, found in ((NOW, (True, True)), (NOW + 1, (False, True)), (NOW + 2, (False, False))):
        now[0] = later
        registry.end_keys()
        assert tuple(registry.find(key) is not None for key in ("one", "two")) == found
    assert registry.explained("one", unknown).detail == "This key ended at 2025-10-09T12:00:00Z."
    assert registry.explained("k9", unknown) is unknown
    forbidden = Problem("forbidden", "Not this.")
    assert registry.explained("one", forbidden) is forbidden
    assert registry.find("k1") is not None


def test_signing_secrets_are_decrypted_only_with_the_encryption_key() -> None:
    keys = new_key(), new_key()
    signed = shop(signing_secrets=("a-secret-of-theirs",))
    entry = source_entry(SecretEncryption(keys[:1]).sealed(signed))
    for given, found in ((keys, True), (keys[1:], False)):
        registry = Registry(sealing=SecretEncryption(given))
        registry.apply_sources([entry])
        secrets = registry.by_id["shop"].source.signing_secrets
        assert (secrets == signed.signing_secrets) is found
        assert registry.find("k1") is not None  # everything else works


def test_an_entry_with_an_impossible_rate_leaves_the_one_before_in_force_and_the_others_go_on() -> (
    None
):
    """As an earlier version may have written it: `weir apply` refuses such rates."""
    registry = registry_of(shop())
    bad = shop(events_per_second=1.0, events_burst=10**400)
    registry.apply_sources([source_entry(bad), source_entry(Source(id="other"))])
    assert registry.loaded
    assert registry.by_id["shop"].source == shop()
    assert "other" in registry.by_id
