"""`weir apply` plans additions, changes and removals of sources without showing secrets."""

from weir.core.registry import ApiKey, IdMapping, Quota, Source, hash_key
from weir.registry.secret_encryption import SecretEncryption, new_key
from weir.registry.source_changes import SourceChange, key_conflicts, plan, plan_sealing

DIGEST = hash_key("a-key-of-the-shop")
SHOP = Source(id="shop", write_key_hashes=(DIGEST,))
BLOG = Source(id="blog")


def named(*sources: Source) -> dict[str, Source]:
    return {source.id: source for source in sources}


def test_a_new_source_is_added_with_all_its_fields() -> None:
    (change,) = plan(named(SHOP), {}, prune=False)
    assert (change.action, change.source) == ("add", "shop")
    assert "dedup_window_seconds: 86400" in change.details
    assert f"write_key_hashes: {DIGEST[:8]}…" in change.details


def test_an_unchanged_source_is_not_in_the_plan() -> None:
    assert plan(named(SHOP), named(SHOP, BLOG), prune=False) == []


def test_a_change_lists_only_the_fields_that_differ() -> None:
    quota = Quota(name="plan", period="month", limit=1_000_000)
    mapping = IdMapping(event="*", user_id="customer.id")
    changed = Source(
        id="shop",
        write_key_hashes=(DIGEST,),
        kind="browser",
        quotas=(quota,),
        mappings=(mapping,),
    )
    assert plan(named(changed), named(SHOP), prune=False) == [
        SourceChange(
            "change",
            "shop",
            (
                "kind: server -> browser",
                "quotas: none -> plan (1,000,000 events a month, reject)",
                "mappings: none -> * (user_id=customer.id)",
            ),
        )
    ]


def test_a_source_missing_from_the_file_is_removed_only_with_prune() -> None:
    assert plan(named(SHOP), named(SHOP, BLOG), prune=True) == [
        SourceChange("remove", "blog", ("its keys are removed, too",))
    ]


def test_a_plan_shows_no_whole_key_digest_and_no_signing_secret() -> None:
    changes = plan(named(SHOP), {}, prune=True) + plan(named(BLOG), named(SHOP), prune=True)
    assert DIGEST not in repr(changes)
    keyed = Source(id="shop", admin_key_hashes=(DIGEST,), signing_secrets=("a-secret-of-theirs",))
    (change,) = plan(named(keyed), named(Source(id="shop")), prune=False)
    assert DIGEST not in repr(change)
    assert change.details[-1] == "signing_secrets: none -> 1 of them"


def test_a_write_key_that_another_remaining_source_has_is_a_conflict() -> None:
    thief = Source(id="thief", write_key_hashes=(DIGEST,))
    (fault,) = key_conflicts(named(thief), named(SHOP), prune=False)
    assert fault.startswith("sources.thief: has a key that shop in the registry has too")
    assert key_conflicts(named(thief), named(SHOP), prune=True) == []
    assert key_conflicts(named(SHOP), named(SHOP), prune=False) == []


def test_a_write_key_made_by_weir_keys_conflicts_with_the_file() -> None:
    made = {DIGEST: ApiKey(digest=DIGEST, source="shop", scope="write", created_at=0)}
    (fault,) = key_conflicts(named(SHOP), {}, True, made)
    assert fault.startswith("sources.shop: has a key that `weir keys` made")
    assert DIGEST not in fault


def test_plain_secrets_and_those_under_an_old_key_are_reencrypted() -> None:
    old, new = new_key(), new_key()
    signed = Source(id="shop", signing_secrets=("a-secret-of-theirs",))
    wanted, present = named(signed, BLOG), SecretEncryption((new, old))
    for stored in (signed, SecretEncryption((old,)).sealed(signed)):
        assert plan(wanted, named(present.opened(stored), BLOG), prune=False) == []
        (change,) = plan_sealing(wanted, named(stored, BLOG), present)
        assert (change.action, change.source) == ("change", "shop")
    assert plan_sealing(wanted, named(present.sealed(signed), BLOG), present) == []
    assert plan_sealing(named(BLOG), named(signed, BLOG), present) == []  # not the file's
