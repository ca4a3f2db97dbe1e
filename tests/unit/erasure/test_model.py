"""Who is meant, and how long what an erasure cannot reach stays."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.adapters import avro
from weir.core.identifiers import minted_profile_id
from weir.erasure.model import (
    IN_A_RECORD,
    KAFKA_DELETES_MS,
    NEVER,
    ErasedPerson,
    ErasedPlace,
    ErasedRows,
    Erasure,
    ErasureProgress,
    kept_until,
    names_to_forget,
    subject_hash,
    topic_gone_by,
)
from weir.erasure.topic import Erasures, erasure_entries, read_erasure

BROKERS_TAKE = 1_048_588  # message.max.bytes
HOUR = 3_600_000
NOW = 1_760_000_000_000


def test_a_user_has_the_profile_that_is_minted_for_them() -> None:
    person = ErasedPerson.of("acme", "user:ada")
    assert person.names == {"u:ada"}
    assert person.profiles == {minted_profile_id("acme", "u:ada")}


def test_a_colon_in_an_identifier_is_part_of_it() -> None:
    assert ErasedPerson.of("acme", "user:org:ada").users == ["org:ada"]


def test_ties_add_owners_profiles_and_both_sides_of_merges() -> None:
    person = ErasedPerson.of("acme", "profile:p").with_ties([("a:x", "p", "u:ada")], [("old", "p")])
    assert person.names == {"p:p", "a:x", "u:ada"}
    assert person.profiles >= {"p", "old", minted_profile_id("acme", "a:x")}
    assert person.identifiers() == sorted({"p", "x", "ada"} | person.profiles)


def test_an_anonymous_owner_is_nobody() -> None:
    person = ErasedPerson.of("acme", "profile:p").with_ties([("a:x", "p", "")], [])
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


def large(names: int, profiles: int, counts: int, digests: int) -> Erasure:
    """Of identifiers as long as they may be."""
    places = [ErasedPlace(f"place {n}", n, NOW) for n in range(20)]
    rows = [ErasedRows("duplicates", "identity", "s" * 64, n * 60_000, n) for n in range(counts)]
    return Erasure(
        "id",
        "acme",
        "user:ada",
        NOW,
        step="waits",
        names=[f"u:{n:05}" + "\U0001f600" * 250 for n in range(names)],
        profiles=[f"{n:05}" + "\U0001f600" * 250 for n in range(profiles)],
        places=places,
        counts=rows,
        barred=bytes(range(16)) * digests,
    )


@given(*(st.integers(0, 3 * IN_A_RECORD[name]) for name in ("names", "profiles", "counts")))
def test_of_whatever_size_its_records_come_to_the_same_and_brokers_take_them(
    names: int, profiles: int, counts: int
) -> None:
    erasure = large(names, profiles, counts, names + profiles + 10 * counts)
    entries = erasure_entries(erasure)
    assert max(len(value) for _, value in entries) < BROKERS_TAKE * 2 // 3
    read = Erasures()
    read.apply(entries)
    (found,) = read.by_id.values()
    assert found == Erasure(
        **{name: getattr(erasure, name) for name in Erasure.__struct_fields__}
        | {"portions": len(entries)}
    )


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (ErasureProgress(), "waiting for the eraser"),
        (ErasureProgress("waiting", "dedup", 1_234), "waiting for dedup: 1,234 records to go"),
        (ErasureProgress("waiting", "sink"), "waiting for sink: counts"),
        (ErasureProgress("deleting", "events"), "deleting from ClickHouse: events"),
        (ErasureProgress("finished"), "finished"),
    ],
)
def test_progress_is_kept_as_values_and_said_for_people(
    progress: ErasureProgress, text: str
) -> None:
    erasure = Erasure("id", "acme", "user:ada", NOW).doing(progress)
    assert erasure.step == text
    read = Erasures()
    read.apply(erasure_entries(erasure))
    assert read.by_id["id"] == erasure


def test_what_an_earlier_version_wrote_is_read_as_queued() -> None:
    erasure = Erasure("id", "acme", "user:ada", NOW, step="waiting for dedup: 1 records to go")
    fields = msgspec.to_builtins(erasure, builtin_types=(bytes,))
    del fields["progress"]
    (past,) = (s for s in avro.schemas_by_header().values() if is_second_version(s))
    assert read_erasure(past.encode(fields)) == erasure


def is_second_version(schema: avro.Schema) -> bool:
    return schema.name == "Erasure" and schema.fields[-1] == "portions"


def test_once_finished_every_record_of_it_is_written_over() -> None:
    pending = large(500, 700, 1, 1)
    keys = {key for key, _ in erasure_entries(pending)}
    finished = erasure_entries(pending.finished(NOW, "hash"))
    assert {key for key, _ in finished} == keys
    assert not [value for _, value in finished if "\U0001f600".encode() in value]


def test_a_first_record_without_the_others_is_waited_over() -> None:
    """As compaction may leave a version that a later one follows."""
    entries = erasure_entries(large(500, 0, 0, 0))
    read = Erasures()
    read.apply([entries[-1]])
    assert len(read.by_id["id"].names) == IN_A_RECORD["names"]
    read.apply(entries)
    assert len(read.by_id["id"].names) == 500


@pytest.mark.parametrize("number", [1, 200, 5_000])
def test_what_is_told_grows_with_the_identifiers_and_not_with_their_square(number: int) -> None:
    names = [f"a:{n}" for n in range(number)]
    assert [names_to_forget(name, names) for name in names] == [[[name]] for name in names]
    others = names_to_forget("u:bob", names)
    assert [name for portion in others for name in portion] == names
    assert max(map(len, others)) <= IN_A_RECORD["names"]
