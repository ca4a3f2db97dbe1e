"""The statements that forget, on one server and on a cluster: synchronous, unlogged, and naming nobody."""

from services.core.erasures import Person
from services.edge.clickhouse_words import is_in, text
from services.edge.person_conditions import conditions
from services.edge.person_erasing import TABLES, mutation


def test_it_returns_when_every_replica_is_through() -> None:
    here = mutation("weir", "events", "", "DELETE WHERE 1")
    there = mutation("weir", "events", "main", "DELETE WHERE 1")
    assert here.startswith("ALTER TABLE weir.events DELETE WHERE 1 SETTINGS")
    assert there.startswith("ALTER TABLE weir.events ON CLUSTER main DELETE WHERE 1 SETTINGS")
    assert "mutations_sync = 2" in here
    assert "log_queries = 0" in here


def test_every_table_has_its_condition_and_none_names_anybody() -> None:
    person = Person.of("acme", "user:ada")
    found = conditions("acme", 1, "weir", lambda kind: f"(SELECT value OF {kind})")
    assert found.keys() == set(TABLES)
    for condition in found.values():
        assert not [name for name in person.identifiers() if name in condition]


def test_events_go_last_since_others_are_found_by_them() -> None:
    assert TABLES[-1] == "events"


def test_values_cannot_leave_their_quotes() -> None:
    assert text("a'b\\c") == "'a\\'b\\\\c'"
    assert is_in("x", ["'", "b"]) == "x IN ('\\'', 'b')"
    assert is_in("x", []) == "0"
