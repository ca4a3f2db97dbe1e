"""Who is meant, and how long what an erasure cannot reach stays."""

from services.core.erasures import (
    KAFKA_DELETES_MS,
    NEVER,
    Erasure,
    Person,
    kept_until,
    subject_hash,
    topic_gone_by,
)
from services.core.identifiers import minted_profile_id

HOUR = 3_600_000
NOW = 1_760_000_000_000


def test_a_user_has_the_profile_that_is_minted_for_them() -> None:
    person = Person.of("acme", "user:ada")
    assert person.names == {"u:ada"}
    assert person.profiles == {minted_profile_id("acme", "u:ada")}


def test_a_colon_in_an_identifier_is_part_of_it() -> None:
    assert Person.of("acme", "user:org:ada").users == ["org:ada"]


def test_ties_add_owners_profiles_and_both_sides_of_merges() -> None:
    person = Person.of("acme", "profile:p").with_ties([("a:x", "p", "u:ada")], [("old", "p")])
    assert person.names == {"p:p", "a:x", "u:ada"}
    assert person.profiles >= {"p", "old", minted_profile_id("acme", "a:x")}
    assert person.identifiers() == sorted({"p", "x", "ada"} | person.profiles)


def test_an_anonymous_owner_is_nobody() -> None:
    person = Person.of("acme", "profile:p").with_ties([("a:x", "p", "")], [])
    assert "" not in person.names


def test_a_finished_erasure_names_nobody() -> None:
    erasure = Erasure("id", "acme", "user:ada", NOW, names=["u:ada"], profiles=["p-of-ada"])
    assert "ada" not in str(erasure.finished(NOW, "hash"))


def test_the_hash_takes_the_secret_and_all_of_the_subject() -> None:
    hashes = {
        subject_hash("s", "id", "acme", "user:ada"),
        subject_hash("t", "id", "acme", "user:ada"),
        subject_hash("s", "id", "acme", "profile:ada"),
        subject_hash("s", "id", "other", "user:ada"),
        subject_hash("", "id", "acme", "user:ada"),
    }
    assert len(hashes) == 5
    assert subject_hash("s", "id", "acme", "user:ada") == subject_hash(
        "s", "another", "acme", "user:ada"
    )


def test_a_topic_with_retention_loses_a_whole_file_at_a_time() -> None:
    config = {
        "cleanup.policy": "delete",
        "retention.ms": str(10 * HOUR),
        "segment.ms": str(2 * HOUR),
    }
    assert topic_gone_by(config, NOW, NOW + HOUR) == NOW + 12 * HOUR + KAFKA_DELETES_MS
    assert topic_gone_by(config | {"retention.ms": "-1"}, NOW, NOW) == NEVER


def test_a_compacted_topic_is_cleaned_twice() -> None:
    config = {
        "cleanup.policy": "compact",
        "segment.ms": str(HOUR),
        "max.compaction.lag.ms": str(3 * HOUR),
        "delete.retention.ms": str(24 * HOUR),
    }
    assert topic_gone_by(config, NOW, NOW + HOUR) == NOW + HOUR + 8 * HOUR + 24 * HOUR
    assert topic_gone_by({"cleanup.policy": "compact"}, NOW, NOW) == NEVER


def test_markers_are_kept_as_long_as_the_topic_that_keeps_longest() -> None:
    short, long = ({"retention.ms": str(n * HOUR)} for n in (1, 5))
    assert kept_until([short, long], NOW) == NOW + 5 * HOUR + KAFKA_DELETES_MS
