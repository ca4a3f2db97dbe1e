"""Applying sources: what differs, and what it says of it."""

from weir.core.registry import ApiKey, IdMapping, Quota, Source, hash_key
from weir.registry.secret_encryption import SecretEncryption, new_key
from weir.registry.source_changes import SourceChange, key_conflicts, plan, plan_sealing

DIGEST = hash_key("a-key-of-the-shop")
SHOP = Source(id="shop", write_key_hashes=(DIGEST,))
BLOG = Source(id="blog")


def named(*sources: Source) -> dict[str, Source]:
    return {source.id: source for source in sources}


def test_a_new_source_is_added_with_all_it_has() -> None:
    (change,) = plan(named(SHOP), {}, prune=False)
    assert (change.action, change.source) == ("add", "shop")
    assert "dedup_window_seconds: 86400" in change.details
    assert f"write_key_hashes: {DIGEST[:8]}…" in change.details


def test_an_equal_source_is_left_alone() -> None:
    assert plan(named(SHOP), named(SHOP, BLOG), prune=False) == []


def test_a_change_names_only_what_differs() -> None:
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


def test_what_the_file_lacks_goes_only_when_asked() -> None:
    assert plan(named(SHOP), named(SHOP, BLOG), prune=True) == [
        SourceChange("remove", "blog", ("its keys are removed, too",))
    ]


def test_no_whole_digest_is_shown() -> None:
    changes = plan(named(SHOP), {}, prune=True) + plan(named(BLOG), named(SHOP), prune=True)
    assert DIGEST not in repr(changes)
    keyed = Source(id="shop", admin_key_hashes=(DIGEST,), signing_secrets=("a-secret-of-theirs",))
    (change,) = plan(named(keyed), named(Source(id="shop")), prune=False)
    assert DIGEST not in repr(change)
    assert change.details[-1] == "signing_secrets: none -> 1 of them"


def test_a_key_of_a_source_that_stays_is_a_conflict() -> None:
    thief = Source(id="thief", write_key_hashes=(DIGEST,))
    (fault,) = key_conflicts(named(thief), named(SHOP), prune=False)
    assert fault.startswith("sources.thief: has a key that shop in the registry has too")
    assert key_conflicts(named(thief), named(SHOP), prune=True) == []
    assert key_conflicts(named(SHOP), named(SHOP), prune=False) == []


def test_a_key_that_was_made_beside_the_file_is_no_files() -> None:
    made = {DIGEST: ApiKey(digest=DIGEST, source="shop", scope="write", created_at=0)}
    (fault,) = key_conflicts(named(SHOP), {}, True, made)
    assert fault.startswith("sources.shop: has a key that `weir keys` made")
    assert DIGEST not in fault


def test_secrets_in_plain_or_of_a_key_that_is_to_go_are_encrypted_anew() -> None:
    old, new = new_key(), new_key()
    signed = Source(id="shop", signing_secrets=("a-secret-of-theirs",))
    wanted, present = named(signed, BLOG), SecretEncryption((new, old))
    for stored in (signed, SecretEncryption((old,)).sealed(signed)):
        assert plan(wanted, named(present.opened(stored), BLOG), prune=False) == []
        (change,) = plan_sealing(wanted, named(stored, BLOG), present)
        assert (change.action, change.source) == ("change", "shop")
    assert plan_sealing(wanted, named(present.sealed(signed), BLOG), present) == []
    assert plan_sealing(named(BLOG), named(signed, BLOG), present) == []  # not the file's
