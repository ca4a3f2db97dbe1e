"""A person's rows are found, counted, exported and deleted on the real engine, by any identifiers."""

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.support import records as rows
from tests.support.events import NOON
from tests.support.profiles import size
from tests.support.running_warehouse import RunningWarehouse, start_warehouse
from weir.adapters import avro
from weir.adapters.clickhouse.insert import ClickHouseRows, ClickHouseSchema
from weir.adapters.clickhouse.query import ClickHouse
from weir.erasure.clickhouse_deletes import PersonDeletes
from weir.erasure.export import PersonExport
from weir.erasure.identifier_scan import IdentifierScan
from weir.erasure.model import ErasedPerson, ErasedPlace, Erasure
from weir.erasure.person_rows import PersonRows
from weir.erasure.scan_tables import TableScan
from weir.erasure.topic import erasure_entries
from weir.runtime.sink_ports import Insert
from weir.settings.shared import ClickHouseSettings
from weir.sink.migrations import Dialect, apply_migrations
from weir.sink.step import TABLES

MANY = size(5_000, 1_500)
UNTIL = NOON + rows.MINUTE
LATER = UNTIL + rows.MINUTE
DECLARED = {"shop": "acme", "theirs": "other"}  # not `gone`, which was removed


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWarehouse]:
    running = start_warehouse(tmp_path_factory.mktemp("person"))
    yield running
    running.stop()


class People:
    """A migrated database of the test's own."""

    def __init__(self, url: str) -> None:
        self.database = f"weir_{uuid.uuid4().hex[:8]}"
        settings = ClickHouseSettings(clickhouse_url=url, clickhouse_database=self.database)
        self.schema = ClickHouseSchema(settings)
        apply_migrations(self.schema, Dialect(self.database))
        self._rows = ClickHouseRows(settings, 60, 2, compress=False)
        self.clickhouse = ClickHouse(settings)
        self.known = PersonRows(self.clickhouse, self.database)
        self.erasing = PersonDeletes(self.clickhouse, self.database)
        self.export = PersonExport(self.clickhouse, self.database)

    def insert(self, *values: bytes) -> None:
        table = TABLES[avro.schema_of(values[0]).name]
        self._rows.insert(Insert(table, values[0][:10], values, uuid.uuid4().hex))

    def ask(self, sql: str) -> list[list[Any]]:
        sql = sql.replace("weir.", f"{self.database}.")
        return [list(record.values()) for record in self.schema.records(sql)]

    def count(self, table: str) -> int:
        return int(self.ask(f"SELECT count() FROM weir.{table}")[0][0])

    def traces(self, identifiers: list[str], *tables: str) -> dict[str, int]:
        scan = TableScan(self.clickhouse, self.database, IdentifierScan(identifiers))
        texts = scan.tables()
        names = {table: f"{self.database}.{table}" for table in tables}
        found = {table: scan.count(name, texts[name]) for table, name in names.items()}
        return {table: number for table, number in found.items() if number}

    def erase(self, person: ErasedPerson) -> list[str]:
        """The ids of rows that are found by their content."""
        found = self.erasing.begin(person, UNTIL, DECLARED)
        for _ in self.erasing.delete():
            pass
        assert self.erasing.remaining() == {}
        self.erasing.end()
        return found

    def close(self) -> None:
        self._rows.close()
        self.schema.execute(f"DROP DATABASE {self.database}")


@pytest.fixture
def people(warehouse: RunningWarehouse) -> Iterator[People]:
    made = People(warehouse.url)
    yield made
    made.close()


def refusal(number: int, source: str, **said: Any) -> bytes:
    record = avro.decode_any(rows.rejected(number))[1]
    return rows.encode(
        "Rejected", **record | {"source": source, "payload": json.dumps(said).encode()}
    )


def test_a_person_of_many_identifiers_is_erased_whole(people: People) -> None:
    devices = [f"device-{n:04}" for n in range(MANY)]
    used = devices[::20]
    people.insert(*(rows.profile(f"a:{device}", "p", owner="u:ada") for device in devices))
    events: dict[str, Any] = {"workspace": "acme", "user_id": "ada"}
    people.insert(*(rows.resolved(n, "p", anonymous_id=d, **events) for n, d in enumerate(used)))
    people.insert(*(refusal(n, "shop", anonymous_id=d) for n, d in enumerate(used)))
    stays = rows.resolved(MANY, "q", workspace="acme", anonymous_id="another")
    people.insert(stays, rows.resolved(MANY + 1, "q", workspace="acme", anonymous_id=used[-1]))

    person = people.known.whole(ErasedPerson.of("acme", "user:ada"))
    assert person.names == {"u:ada"} | {f"a:{device}" for device in devices}
    assert people.known.holders(person) == ["p:q"]
    held = Counter(kind for kind, _ in people.export.rows(person, DECLARED))
    assert held == Counter(event=len(used), identifier=MANY, rejected=len(used), profile=1)
    traces = {"events": len(used) + 1, "profile_parts": MANY, "rejected": len(used)}
    assert people.traces(person.identifiers(), *traces) == traces

    assert len(people.erase(person)) == len(used)
    assert people.traces(person.identifiers(), *traces, "erasing") == {}
    assert people.ask("SELECT profile_id, anonymous_id FROM weir.events ORDER BY 2") == [
        ["q", ""],
        ["q", "another"],
    ]


def test_rejected_events_and_dead_letters_of_removed_sources_are_found(people: People) -> None:
    people.insert(
        refusal(1, "gone", user_id="ada"),
        refusal(2, "theirs", user_id="ada"),
        refusal(3, "gone", friend="ada"),
        refusal(4, "moved", user_id="ada"),
    )
    lost = refusal(5, "shop", user_id="ada")
    people.insert(
        rows.dead_letter(1, source="gone", value=b"\x00cut ada"),
        rows.dead_letter(2, value=lost, step="sink"),
        rows.dead_letter(7, value=refusal(8, "theirs", user_id="ada"), step="sink"),
        rows.dead_letter(3, source="shop", value=refusal(6, "shop", friend="ada")),
        rows.dead_letter(4, value=rows.profile("u:ada", "p", workspace="other")),
        rows.dead_letter(5, source="shop", value=rows.dead_letter(6, value=lost)),
    )
    # once of this workspace, as its events tell, and of another one by the registry now
    people.insert(rows.resolved(1, "p", workspace="acme", source="moved", user_id="bob"))
    assert people.known.workspaces_of_source("moved") == ["acme"]
    assert people.known.workspaces_of_source("nobody's") == []
    declared = DECLARED | {"moved": "other"}
    found = people.erasing.begin(ErasedPerson.of("acme", "user:ada"), UNTIL, declared)
    ids = [str(uuid.UUID(int=n)) for n in (1, 4, 5)]  # the last one: not to come back by itself
    letters = [f"events.accepted/1/{n}/{by}" for n, by in ((1, "dedup"), (2, "sink"), (5, "dedup"))]
    assert found == [*ids, *letters]


def test_a_session_that_continues_after_an_erasure_keeps_its_later_events(people: People) -> None:
    theirs: dict[str, Any] = {"workspace": "acme", "user_id": "ada", "client_session_id": "visit"}
    before = [rows.resolved(n, "p", "visit", occurred_at=NOON + n, **theirs) for n in range(3)]

    def later(number: int) -> bytes:
        at = LATER + number
        return rows.resolved(
            number, "p", "visit", event=f"later-{number}", occurred_at=at, received_at=at, **theirs
        )

    other = rows.resolved(20, "q", "visit", workspace="acme", client_session_id="visit")
    people.insert(*before, later(10), later(11), other)
    person = ErasedPerson("acme", frozenset({"u:ada"}), frozenset({"p"}))
    visits = (
        "SELECT profile_id, toInt32(events), entry_event, exit_event FROM weir.sessions ORDER BY 1"
    )
    assert people.ask(visits)[0][:2] == ["p", 5]
    # an eraser that is ended before it comes to the events, and the next ones; events may come meanwhile
    for last, comes in ((12, True), (13, True), (13, False), (13, False)):
        people.erasing.begin(person, UNTIL, DECLARED)
        for step in people.erasing.delete():
            if step == "visits that go on" and comes:
                people.insert(later(last))
            if step == "profile_parts":
                break
        assert people.ask(visits)[0] == ["p", last - 9, "later-10", f"later-{last}"]
    people.erase(person)
    assert people.ask(visits) == [
        ["p", 4, "later-10", "later-13"],
        ["q", 1, "page_view", "page_view"],
    ]


SHORTS = "short_of_rows, short_of_duplicate_rows, short_of_dead_rows, erased_rows, duplicate_rows, dead_rows"


def test_the_ledger_reports_no_loss_for_rows_being_erased_and_for_others_does(
    people: People,
) -> None:
    people.insert(
        rows.usage("accepted", 9, 9),
        rows.usage("unique", 7, 9),
        rows.usage("duplicate", 2, 9),
        rows.usage("resolved", 6, 7, stage="identity"),
        rows.usage("dead", 1, 7, stage="identity"),
    )
    theirs = {"workspace": "acme", "user_id": "ada"}
    people.insert(*(rows.resolved(n, "p", **theirs) for n in range(3)))
    people.insert(*(rows.resolved(n, "q", workspace="acme") for n in range(3, 6)))
    first = uuid.UUID(bytes=avro.decode_any(rows.resolved(0))[1]["event_id"])
    for n in range(2):
        repeat = avro.decode_any(rows.duplicate(n))[1]
        theirs_or_not = first.bytes if n else rows.UUID_BYTES
        people.insert(rows.encode("Duplicate", **repeat | {"first_event_id": theirs_or_not}))
    letter: dict[str, Any] = {"source": "shop", "received_at": NOON, "value": b"\x00ada"}
    people.insert(rows.dead_letter(1, step="identity", **letter))
    # a refusal that ClickHouse would not take is in no stage's accounts
    people.insert(rows.dead_letter(2, step="sink", origin_topic="events.rejected", **letter))
    balanced = [0, 0, 0, 0, 2, 1]
    assert people.ask(f"SELECT {SHORTS} FROM weir.ledger") == [balanced]

    person = ErasedPerson("acme", frozenset({"u:ada"}), frozenset({"p"}))
    people.erasing.begin(person, UNTIL, DECLARED)
    totals, counts = people.erasing.count()
    assert [totals[name] for name in ("events", "duplicates", "dead")] == [3, 1, 2]
    erasure = Erasure(str(uuid.uuid4()), "acme", "user:ada", NOON, state="counted", counts=counts)
    assert people.erasing.recorded(erasure.erasure_id) == 0
    for _, value in erasure_entries(erasure):
        people.insert(value)
    assert people.erasing.recorded(erasure.erasure_id) == len(counts)
    shorts = [people.ask(f"SELECT {SHORTS} FROM weir.ledger")[0]]
    for _ in people.erasing.delete():
        shorts.append(people.ask(f"SELECT {SHORTS} FROM weir.ledger")[0])
    gone = [0, 0, 0, 3, 2, 1]
    assert shorts[0] == balanced
    assert people.ask(f"SELECT {SHORTS} FROM weir.ledger") == [gone]
    assert {tuple(line[:3]) for line in shorts} == {(0, 0, 0)}

    places = [ErasedPlace("table events", 3, NOON)]
    for _, value in erasure_entries(
        Erasure(erasure.erasure_id, "acme", "", NOON, state="finished", places=places)
    ):
        people.insert(value)
    assert people.ask(f"SELECT {SHORTS} FROM weir.ledger") == [gone]
    people.schema.execute(
        f"ALTER TABLE {people.database}.events DELETE WHERE profile_id = 'q'"
        " SETTINGS mutations_sync = 2"
    )
    assert people.ask("SELECT short_of_rows FROM weir.ledger") == [[3]]


def test_the_ledger_reports_rows_missing_beyond_an_erasures_counts(people: People) -> None:
    people.insert(rows.usage("resolved", 5, 5, stage="identity"), rows.usage("unique", 5, 5))
    people.insert(rows.resolved(1, "p", workspace="acme", user_id="ada"))
    person = ErasedPerson("acme", frozenset({"u:ada"}), frozenset({"p"}))
    people.erasing.begin(person, UNTIL, DECLARED)
    _, counts = people.erasing.count()
    (entry,) = erasure_entries(Erasure(str(uuid.uuid4()), "acme", "", NOON, counts=counts))
    people.insert(entry[1])
    assert people.ask("SELECT short_of_rows, erased_rows FROM weir.ledger") == [[3, 1]]
    people.erase(person)
    assert people.ask("SELECT short_of_rows, erased_rows FROM weir.ledger") == [[4, 1]]


def test_an_export_returns_properties_and_context_as_sent(people: People) -> None:
    text = '{"a":{"b":1}, "a.b":2,\n "n":null, "o":{}, "f":1.0, "f":2, "big":18446744073709551616}'
    people.insert(rows.resolved(1, "p", workspace="acme", properties=text, context="{ }"))
    person = people.known.whole(ErasedPerson.of("acme", "profile:p"))
    (event,) = [row for kind, row in people.export.rows(person, DECLARED) if kind == "event"]
    line = msgspec.json.encode(event).decode()
    assert '"properties":' + text.replace("\n", " ") in line
    assert '"context":{ }' in line
    people.schema.execute(
        f"ALTER TABLE {people.database}.events UPDATE properties_text = '', context_text = '' WHERE 1"
        " SETTINGS mutations_sync = 2"
    )
    (event,) = [row for kind, row in people.export.rows(person, DECLARED) if kind == "event"]
    assert msgspec.json.decode(event["properties"])["a"] == {"b": 1}  # stored by an older version


def test_erasing_a_devices_former_owner_leaves_its_current_owner_untouched(people: People) -> None:
    """Outdated rows, which ClickHouse has yet to merge, do not join the two people."""
    for owner, version in (("bob", 1), ("ada", 2)):
        people.insert(
            rows.profile("a:x", "device", owner=f"u:{owner}", version=version),
            rows.profile(f"u:{owner}", owner, owner=f"u:{owner}"),
        )
        people.insert(rows.merge("device", owner))
    common: dict[str, Any] = {"workspace": "acme"}
    people.insert(
        rows.resolved(1, "device", anonymous_id="x", **common),
        rows.resolved(2, "ada", user_id="ada", **common),
        rows.resolved(3, "bob", user_id="bob", **common),
    )
    bob = people.known.whole(ErasedPerson.of("acme", "user:bob"))
    assert bob.names == {"u:bob"}
    people.erase(bob)
    assert people.ask("SELECT profile_id FROM weir.events ORDER BY profile_id") == [
        ["ada"],
        ["device"],
    ]
    assert people.ask("SELECT into_profile FROM weir.merges") == [["ada"]]
    ada = people.known.whole(ErasedPerson.of("acme", "user:ada"))
    assert ada.names == {"u:ada", "a:x"}
    assert people.traces(["bob"], "events", "profile_parts", "merges") == {}
