"""`weir keys` makes API keys, rotates them, finds them by digest and lists them."""

from datetime import timedelta
from typing import Any

import pytest

from weir.cli.keys import Duration
from weir.core.registry import ApiKey, Source, hash_key
from weir.registry.contents import RegistryContents
from weir.registry.key_changes import KeysError, create_key, find, lines, require_source, rotate_key

NOW = 1_700_000_000_000
HOUR = 3_600_000
FILES = hash_key("a-key-of-the-file")


def key(digest: str, **fields: Any) -> ApiKey:
    full = digest.ljust(64, "0")
    return ApiKey(digest=full, **{"source": "shop", "scope": "write", "created_at": NOW, **fields})


def registered(*keys: ApiKey, **fields: Any) -> RegistryContents:
    shop = Source(id="shop", read_key_hashes=(FILES,), **fields)
    return RegistryContents({"shop": shop}, {key.digest: key for key in keys})


@pytest.mark.parametrize(("scope", "prefix"), [("write", "w"), ("read", "r"), ("admin", "a")])
def test_a_new_key_is_unique_and_has_a_prefix_for_its_scope(scope: Any, prefix: str) -> None:
    one, other = (create_key("shop", scope, "n", NOW, None) for _ in range(2))
    assert one.plain.startswith(f"weir_{prefix}_")
    assert len(one.plain) - len("weir_w_") >= 128 // 4
    assert one.plain != other.plain
    assert one.key == ApiKey(
        digest=hash_key(one.plain), source="shop", scope=scope, name="n", created_at=NOW
    )


def test_a_key_with_a_lifetime_expires_at_its_end() -> None:
    made = create_key("shop", "write", "", NOW, timedelta(hours=1)).key
    assert made.ends_at == NOW + HOUR
    assert made.in_force(NOW + HOUR - 1)
    assert not made.in_force(NOW + HOUR)
    assert create_key("shop", "write", "", NOW, None).key.in_force(NOW * 2)


def test_rotating_a_key_keeps_source_scope_and_name_and_ends_the_old_key() -> None:
    old = key("abc", name="till", scope="admin")
    made, ending = rotate_key(old, NOW, timedelta(hours=2), None)
    assert (made.key.source, made.key.scope, made.key.name) == ("shop", "admin", "till")
    assert made.key.digest != old.digest
    assert (ending.digest, ending.ends_at) == (old.digest, NOW + 2 * HOUR)


def test_rotating_a_key_never_extends_the_old_keys_lifetime() -> None:
    _, ending = rotate_key(key("abc", ends_at=NOW + HOUR), NOW, timedelta(hours=2), None)
    assert ending.ends_at == NOW + HOUR
    with pytest.raises(KeysError, match="has ended"):
        rotate_key(key("abc", ends_at=NOW), NOW, timedelta(hours=2), None)


def test_a_key_is_found_by_a_unique_digest_prefix_of_at_least_6_characters() -> None:
    one, other = key("abcdef1"), key("abcdef2")
    assert find("abcdef1", registered(one, other)) == one
    for digest, why in (
        ("abcdef", "2 keys begin"),
        ("abcde", "at least 6"),
        ("weir_w_abcdef", "Do not give the key itself"),
        ("123456", "No key begins"),
        (FILES[:8], "in the sources file"),
    ):
        with pytest.raises(KeysError, match=why):
            find(digest, registered(one, other))


def test_an_unknown_source_error_lists_the_known_sources() -> None:
    require_source("shop", registered().sources)
    with pytest.raises(KeysError, match="no source shoq; there are: shop"):
        require_source("shoq", registered().sources)


def test_the_key_list_shows_file_keys_and_the_state_of_every_key() -> None:
    keys = [key("aa"), key("bb", ends_at=NOW + 1), key("cc", source="gone")]
    found = {line.digest[:2]: line for line in lines(registered(*keys), None, NOW + 1)}
    assert found[FILES[:2]].made_by == "file"
    assert found[FILES[:2]].scope == "read"
    assert [found[name].state for name in ("aa", "bb", "cc")] == [
        "in force",
        "ended",
        "source gone",
    ]
    assert found["bb"].ends_at == "2023-11-14T22:13:20Z"
    assert {line.digest[:2] for line in lines(registered(*keys), "shop", NOW)} == {
        *("aa", "bb", FILES[:2])
    }
    shut = lines(registered(key("aa"), enabled=False), None, NOW)
    assert {line.state for line in shut} == {"source disabled"}


@pytest.mark.parametrize(("text", "seconds"), [("90d", 7_776_000), ("24h", 86_400), ("30m", 1_800)])
def test_a_duration_is_parsed_from_days_hours_or_minutes(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None).total_seconds() == seconds
