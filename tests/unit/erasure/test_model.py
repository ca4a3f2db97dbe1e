"""The erasure model: the person's identifiers, the records' size, and when topics lose old data."""

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


def test_a_user_has_the_profile_id_minted_from_the_user_id() -> None:
    person = ErasedPerson.of("acme", "user:ada")
    assert person.names == {"u:ada"}
    assert person.profiles == {minted_profile_id("acme", "u:ada")}


def test_a_colon_in_an_identifier_is_part_of_it() -> None:
    assert ErasedPerson.of("acme", "user:org:ada").users == ["org:ada"]


def test_ties_add_owners_profiles_and_both_profiles_of_a_merge() -> None:
    person = ErasedPerson.of("acme", "profile:p").with_ties([("a:x", "p", "u:ada")], [("old", "p")])
    assert person.names == {"p:p", "a:x", "u:ada"}
    assert person.profiles >= {"p", "old", minted_profile_id("acme", "a:x")}
    assert person.identifiers() == sorted({"p", "x", "ada"} | person.profiles)


def test_a_tie_without_an_owner_adds_no_name() -> None:
    person = ErasedPerson.of("acme", "profile:p").with_ties([("a:x", "p", "")], [])
    assert "" not in person.names


def test_a_finished_erasure_holds_no_identifier() -> None:
    erasure = Erasure("id", "acme", "user:ada", NOW, names=["u:ada"], profiles=["p-of-ada"])
    assert "ada" not in str(erasure.finished(NOW, "hash"))


def test_the_subject_hash_depends_on_secret_workspace_and_subject() -> None:
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


def test_a_topic_with_retention_deletes_whole_segments() -> None:
    config = {
        "cleanup.policy": "delete",
        "retention.ms": str(10 * HOUR),
        "segment.ms": str(2 * HOUR),
    }
    assert topic_gone_by(config, NOW, NOW + HOUR) == NOW + 12 * HOUR + KAFKA_DELETES_MS
    assert topic_gone_by(config | {"retention.ms": "-1"}, NOW, NOW) == NEVER


def test_a_compacted_topic_loses_a_key_after_compaction_and_delete_retention() -> None:
    config = {
        "cleanup.policy": "compact",
        "segment.ms": str(HOUR),
        "max.compaction.lag.ms": str(3 * HOUR),
        "delete.retention.ms": str(24 * HOUR),
    }
    assert topic_gone_by(config, NOW, NOW + HOUR) == NOW + HOUR + 8 * HOUR + 24 * HOUR
    assert topic_gone_by({"cleanup.policy": "compact"}, NOW, NOW) == NEVER


def test_erase_markers_are_kept_as_long_as_the_longest_topic_retention() -> None:
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
def test_an_erasure_of_any_size_is_read_back_equal_and_fits_the_broker_limit(
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
def test_erasure_progress_is_stored_as_values_and_described_in_words(
    progress: ErasureProgress, text: str
) -> None:
    erasure = Erasure("id", "acme", "user:ada", NOW).doing(progress)
    assert erasure.step == text
    read = Erasures()
    read.apply(erasure_entries(erasure))
    assert read.by_id["id"] == erasure


def test_an_erasure_written_by_the_previous_version_is_read_as_queued() -> None:
    erasure = Erasure("id", "acme", "user:ada", NOW, step="waiting for dedup: 1 records to go")
    fields = msgspec.to_builtins(erasure, builtin_types=(bytes,))
    del fields["progress"]
    (past,) = (s for s in avro.schemas_by_header().values() if is_second_version(s))
    assert read_erasure(past.encode(fields)) == erasure


def is_second_version(schema: avro.Schema) -> bool:
    return schema.name == "Erasure" and schema.fields[-1] == "portions"


def test_finishing_an_erasure_overwrites_all_of_its_records() -> None:
    pending = large(500, 700, 1, 1)
    keys = {key for key, _ in erasure_entries(pending)}
    finished = erasure_entries(pending.finished(NOW, "hash"))
    assert {key for key, _ in finished} == keys
    assert not [value for _, value in finished if "\U0001f600".encode() in value]


def test_an_erasure_with_only_its_first_record_is_completed_by_the_others() -> None:
    """Compaction may keep only a part of an earlier version of the erasure."""
    entries = erasure_entries(large(500, 0, 0, 0))
    read = Erasures()
    read.apply([entries[-1]])
    assert len(read.by_id["id"].names) == IN_A_RECORD["names"]
    read.apply(entries)
    assert len(read.by_id["id"].names) == 500


@pytest.mark.parametrize("number", [1, 200, 5_000])
def test_erase_records_list_only_the_own_name_or_for_other_people_all_names(number: int) -> None:
    names = [f"a:{n}" for n in range(number)]
    assert [names_to_forget(name, names) for name in names] == [[[name]] for name in names]
    others = names_to_forget("u:bob", names)
    assert [name for portion in others for name in portion] == names
    assert max(map(len, others)) <= IN_A_RECORD["names"]
