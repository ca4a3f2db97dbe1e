"""Erasure's ClickHouse deletes are synchronous, stay out of the query log and name no person."""

from tests.support import records as rows
from weir.adapters.clickhouse.sql_literals import PORTION_BYTES, is_in, portions, text
from weir.erasure.clickhouse_deletes import TABLES, mutation
from weir.erasure.conditions import conditions, is_of, mentions
from weir.erasure.identifier_scan import IdentifierScan
from weir.erasure.model import ErasedPerson, Erasure
from weir.erasure.topic import erasure_entries


def test_a_delete_waits_for_every_replica_and_stays_out_of_the_query_log() -> None:
    here = mutation("weir", "events", "", "DELETE WHERE 1")
    there = mutation("weir", "events", "main", "DELETE WHERE 1")
    assert here.startswith("ALTER TABLE weir.events DELETE WHERE 1 SETTINGS")
    assert there.startswith("ALTER TABLE weir.events ON CLUSTER main DELETE WHERE 1 SETTINGS")
    assert "mutations_sync = 2" in here
    assert "log_queries = 0" in here


def test_every_table_has_a_delete_condition_without_identifiers() -> None:
    person = ErasedPerson.of("acme", "user:ada")
    found = conditions("acme", 1, "weir", lambda kind: f"(SELECT value OF {kind})")
    assert found.keys() == set(TABLES)
    for condition in found.values():
        assert not [name for name in person.identifiers() if name in condition]


def test_the_events_table_is_deleted_from_last() -> None:
    assert TABLES[-1] == "events"


def test_values_in_sql_are_escaped() -> None:
    assert text("a'b\\c") == "'a\\'b\\\\c'"
    assert is_in("x", ["'", "b"]) == "x IN ('\\'', 'b')"
    assert is_in("x", []) == "0"


def test_portions_hold_every_value_once_and_stay_within_the_size_limit() -> None:
    values = {"name": [f"'{n:05}" for n in range(20_000)], "none": [], "one": ["x" * 300_000, "y"]}
    found = list(portions(values))
    assert {kind: [v for some in found for v in some[kind]] for kind in values} == values
    sizes = [sum(len(is_in("", some[kind])) for kind in values) for some in found]
    assert [size for size in sizes if size > PORTION_BYTES + 100] == [max(sizes)]  # the one alone
    assert list(portions({"name": []})) == [{"name": []}]


def test_portions_are_measured_by_the_written_forms_of_their_values() -> None:
    values = {"name": [str(n) for n in range(100)]}
    assert len(list(portions(values, lambda value: ["x" * 10_000, value]))) > 10


def test_a_multi_search_has_at_most_255_needles_per_call() -> None:
    forms = [f"device-{n:05}" for n in range(600)]
    condition = mentions("x", forms)
    assert [part.count("device-") for part in condition.split(" OR ")] == [255, 255, 90]
    assert mentions("x", []) == "(0)"


def test_a_dead_letter_belongs_to_a_person_by_its_fields_and_workspace() -> None:
    ada = IdentifierScan(["ada"])
    profile = rows.profile("u:ada", "p")
    assert is_of("acme", ["theirs"], ada, b"", profile)
    assert not is_of("other", [], ada, b"", profile)
    assert not is_of(
        "acme", ["theirs"], ada, b"", rows.profile("u:bob", "p", traits='{"friend": "ada"}')
    )
    pending = Erasure("id", "acme", "user:ada", 1)
    assert is_of("acme", ["theirs"], ada, b"", erasure_entries(pending)[0][1])
    assert is_of("acme", ["theirs"], ada, b"acme\0u:ada", b"\x00garbage")
