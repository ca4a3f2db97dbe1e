"""Keys as values: made, followed by others, found by their digests, and listed."""

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
def test_a_key_says_what_it_is_for_and_no_two_are_the_same(scope: Any, prefix: str) -> None:
    one, other = (create_key("shop", scope, "n", NOW, None) for _ in range(2))
    assert one.plain.startswith(f"weir_{prefix}_")
    assert len(one.plain) - len("weir_w_") >= 128 // 4
    assert one.plain != other.plain
    assert one.key == ApiKey(
        digest=hash_key(one.plain), source="shop", scope=scope, name="n", created_at=NOW
    )


def test_a_key_ends_when_it_was_told_to() -> None:
    made = create_key("shop", "write", "", NOW, timedelta(hours=1)).key
    assert made.ends_at == NOW + HOUR
    assert made.in_force(NOW + HOUR - 1)
    assert not made.in_force(NOW + HOUR)
    assert create_key("shop", "write", "", NOW, None).key.in_force(NOW * 2)


def test_a_successor_is_good_for_the_same_and_the_old_one_ends() -> None:
    old = key("abc", name="till", scope="admin")
    made, ending = rotate_key(old, NOW, timedelta(hours=2), None)
    assert (made.key.source, made.key.scope, made.key.name) == ("shop", "admin", "till")
    assert made.key.digest != old.digest
    assert (ending.digest, ending.ends_at) == (old.digest, NOW + 2 * HOUR)


def test_an_overlap_lengthens_no_life() -> None:
    _, ending = rotate_key(key("abc", ends_at=NOW + HOUR), NOW, timedelta(hours=2), None)
    assert ending.ends_at == NOW + HOUR
    with pytest.raises(KeysError, match="has ended"):
        rotate_key(key("abc", ends_at=NOW), NOW, timedelta(hours=2), None)


def test_a_key_is_found_by_the_beginning_of_its_digest() -> None:
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


def test_a_source_that_is_not_there_is_told_with_those_that_are() -> None:
    require_source("shop", registered().sources)
    with pytest.raises(KeysError, match="no source shoq; there are: shop"):
        require_source("shoq", registered().sources)


def test_the_list_has_the_files_keys_too_and_what_became_of_each() -> None:
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
def test_spans_are_read_as_people_write_them(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None).total_seconds() == seconds
