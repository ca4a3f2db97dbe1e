"""Schema and inserts hold on the real engine: insert tokens, refused rows, and what analysts read."""

import json
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import records as rows
from tests.support.events import NOON, accepted, identify
from tests.support.migrated_tables import Tables
from tests.support.running_warehouse import RunningWarehouse, free_port, start_warehouse
from weir.adapters import avro
from weir.adapters.clickhouse.insert import ClickHouseRows
from weir.adapters.usage_records import signed
from weir.core.batch import id_checksum
from weir.core.registry import Period
from weir.core.repeated_names import without_repeats
from weir.core.resource_paths import ROOT
from weir.gateway.registry_copy import now_ms
from weir.identity.person import Person
from weir.identity.snapshot import encode_person
from weir.identity.traits import learn
from weir.rates.periods import PERIODS, ends_at
from weir.runtime.sink_ports import Insert, RowsRefusedError, WarehouseAwayError
from weir.settings.shared import ClickHouseSettings
from weir.sink.migrations import (
    Migration,
    MigrationError,
    apply_migrations,
    read_migrations,
)
from weir.sink.step import TABLES

MINUTE = rows.MINUTE


# --- migrations


def test_migrations_are_applied_once_and_a_changed_migration_is_refused(tables: Tables) -> None:
    assert apply_migrations(tables.schema, tables.dialect) == []
    first, *others = read_migrations()
    changed = Migration(first.number, first.name, first.sql + "-- changed\n")
    with pytest.raises(MigrationError, match="was changed after it had been applied"):
        apply_migrations(tables.schema, tables.dialect, [changed, *others])


def test_a_partly_applied_migration_is_applied_again(tables: Tables) -> None:
    tables.schema.execute(f"TRUNCATE TABLE {tables.database}.migrations")
    assert len(apply_migrations(tables.schema, tables.dialect)) == len(read_migrations())


def test_every_landing_column_is_a_field_of_its_schema(tables: Tables) -> None:
    """A column without a field would silently stay empty, since past schemas may lack fields."""
    for name, table in TABLES.items():
        columns = tables.ask(
            f"SELECT name FROM system.columns WHERE table = '{table}'"
            f" AND database = '{tables.database}'"
        )
        assert {column for (column,) in columns} <= set(avro.schemas()[name].fields)


# --- inserts


@pytest.mark.parametrize(("count", "padding"), [(20, 0), (50_000, 0), (30_000, 1_000)])
def test_an_insert_with_a_repeated_token_is_dropped_in_every_table(
    tables: Tables, count: int, padding: int
) -> None:
    values = [
        rows.resolved(n, f"p{n % 100}", f"s{n % 100}", properties=rows.properties(n, padding))
        for n in range(count)
    ]
    for token, expected in (("a", count), ("a", count), ("b", 2 * count)):
        tables.insert("landing_events", *values, token=token)
        assert tables.count("events") == expected
        assert tables.one("SELECT sum(events) FROM weir.session_segments") == expected
    parts = tables.ask(
        "SELECT max(rows) FROM system.parts WHERE active AND table = 'events'"
        f" AND database = '{tables.database}' AND level = 0"
    )
    assert parts in ([[count]], [[0]])  # one insert is one part (or merged by now)


def test_repeated_inserts_of_each_record_type_leave_one_row(tables: Tables) -> None:
    kinds = {
        "Resolved": (rows.resolved(1, "p", "s"), "events"),
        "Duplicate": (rows.duplicate(), "duplicates"),
        "Rejected": (rows.rejected(), "rejected"),
        "DeadLetter": (rows.dead_letter(), "dead"),
        "Recovery": (rows.recovery(), "recoveries"),
        "UsageDelta": (rows.usage("accepted", 3, 7), "usage_deltas"),
        "Profile": (rows.profile("u:1", "p"), "profile_parts"),
        "Merge": (rows.merge("a", "b"), "merges"),
        "SourceUsage": (rows.source_usage(), "source_usage"),
        "Erasure": (rows.erasure("finished"), "erasures"),
    }
    assert kinds.keys() | {"ErasedMarkers"} == TABLES.keys()
    for name, (value, table) in kinds.items():
        for _ in range(3):  # with a new token each, as after ClickHouse has forgotten the first
            tables.insert(TABLES[name], value)
        assert len(tables.ask(f"SELECT * FROM weir.{table} FINAL")) == 1, name
    assert tables.ask("SELECT hex(key), hex(value), event_id FROM weir.dead FINAL") == [
        ["FF00", "00FE", "00000000-0000-0000-0000-000000000000"]
    ]
    assert tables.ask("SELECT hex(payload) FROM weir.rejected FINAL") == [["7B22FF"]]
    counted = "SELECT place, source, toString(minute), toInt32(rows) FROM weir.erased_rows FINAL"
    assert tables.ask(counted) == [["events", "shop", "2025-10-09 12:00:00", 3]]


def test_usage_of_a_recreated_topic_is_added_to_usage_of_the_deleted_one(tables: Tables) -> None:
    """Both are counted, even at the same offsets and within the same minute."""
    for topic_id in ("one", "other"):
        tables.insert(TABLES["UsageDelta"], rows.usage("accepted", 3, 7, topic_id=topic_id))
    assert tables.one("SELECT sum(events) FROM weir.usage WHERE outcome = 'accepted'") == 6


def test_an_erasure_in_progress_stores_its_row_counts_and_no_markers(
    tables: Tables,
) -> None:
    tables.insert(TABLES["Erasure"], rows.erasure("counted"))
    tables.insert(TABLES["ErasedMarkers"], rows.encode("ErasedMarkers", markers=b"x" * 32))
    assert tables.one("SELECT count() FROM weir.erasures") == 0
    assert tables.ask("SELECT place, toInt32(rows) FROM weir.erased_rows") == [["events", 3]]


def test_one_insert_stores_ten_years_of_history(tables: Tables) -> None:
    day = 86_400_000
    values = [rows.resolved(n, "p", "", occurred_at=NOON - n * day) for n in range(3_650)]
    tables.insert("landing_events", *values)
    assert tables.one("SELECT uniqExact(toDate32(occurred_at)) FROM weir.events") == 3_650


REFUSED: dict[str, Callable[[int], bytes]] = {
    "cut json": lambda n: rows.resolved(n, properties='{"a":'),
    "no json": lambda n: rows.resolved(n, properties=""),
    "no object": lambda n: rows.resolved(n, properties="[1]"),
    "lone surrogate": lambda n: rows.resolved(n, context='{"a":"\\ud800"}'),
    "infinite number": lambda n: rows.resolved(n, properties='{"a":1e999}'),
    "cut datum": lambda n: rows.resolved(n)[:-20],
    "header alone": lambda n: rows.resolved(n)[:10],
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_row_raises_rows_refused_and_leaves_no_row_in_any_table(
    tables: Tables, name: str
) -> None:
    good = [rows.resolved(n, "p", "s") for n in (1, 2)]
    with pytest.raises(RowsRefusedError):
        tables.insert("landing_events", good[0], REFUSED[name](3), good[1])
    assert tables.count("events") == 0
    assert tables.count("session_segments") == 0
    tables.insert("landing_events", *good)
    assert tables.count("events") == 2


def test_odd_but_legal_json_is_stored(tables: Tables) -> None:
    odd = [
        '{"a":1,"a":2}',
        '{"a":{"b":1},"a.b":2}',
        '{"":1,"a":{"":2}}',
        '{"a":123456789012345678901234567890}',
        '{"a":[1,"x",{"b":[2,{"c":null}]}]}',
        '{"a\\u0000b":"\\u0000"}',
        '{"a":' * 32 + "1" + "}" * 32,
        "{" + ",".join(f'"k{n}":{n}' for n in range(3_000)) + "}",
    ]
    tables.insert(
        "landing_events", *(rows.resolved(n, properties=text) for n, text in enumerate(odd))
    )
    assert tables.count("events") == len(odd)


REPEATED = [
    '{"plan":"free","plan":"pro"}',
    '{"plan":"free","pl\\u0061n":"pro"}',
    '{"a":{"x":1},"a":{"y":2}}',
    '{"a":[{"b":1,"b":2}]}',
]


@pytest.mark.parametrize("sent", REPEATED)
def test_the_first_value_of_a_repeated_json_name_is_stored(tables: Tables, sent: str) -> None:
    """The gateway keeps the same one for traits, from which identity makes profiles."""
    kept = without_repeats(sent.encode()).decode()
    tables.insert(
        "landing_events", *(rows.resolved(n, properties=p) for n, p in enumerate((sent, kept)))
    )
    assert tables.one("SELECT uniqExact(toString(properties)) FROM weir.events") == 1
    assert tables.one("SELECT count() FROM weir.events") == 2


def test_event_times_beyond_the_calendar_are_stored(tables: Tables) -> None:
    times = (-(2**62), -62_200_000_000_000, -300_000_000_000, 0, 253_402_300_799_000, 2**63 - 1)
    tables.insert(
        "landing_events", *(rows.resolved(n, occurred_at=at) for n, at in enumerate(times))
    )
    assert tables.count("events") == len(times)


def test_a_missing_table_or_server_raises_warehouse_away_and_not_rows_refused(
    tables: Tables,
) -> None:
    with pytest.raises(WarehouseAwayError, match="code 60"):
        tables.insert("nowhere", rows.resolved(1))
    nobody = ClickHouseSettings(clickhouse_url=f"http://127.0.0.1:{free_port()}")
    away = ClickHouseRows(nobody, 5, 1, compress=False)
    with pytest.raises(WarehouseAwayError) as raised:
        away.insert(Insert("landing_events", rows.resolved(1)[:10], [rows.resolved(1)], "t"))
    assert not raised.value.sent


def test_a_refused_connection_counts_as_unsent_and_a_lost_answer_as_sent(tmp_path: Path) -> None:
    own = start_warehouse(tmp_path)
    sink = ClickHouseRows(ClickHouseSettings(clickhouse_url=own.url), 5, 1, compress=False)

    def fault() -> WarehouseAwayError:
        value = rows.resolved(1)
        with pytest.raises(WarehouseAwayError) as raised:
            sink.insert(Insert("landing_events", value[:10], [value], "t"))
        return raised.value

    try:
        assert fault().answered  # the database does not exist
    finally:
        own.kill()
    assert not fault().sent
    with socket.create_server(("127.0.0.1", own.port)) as listener, ThreadPoolExecutor(1) as pool:
        closed = pool.submit(lambda: listener.accept()[0].close())
        assert fault().sent
        closed.result()
    sink.close()


def test_a_compressed_insert_stores_all_rows(tables: Tables) -> None:
    packed = ClickHouseRows(tables.settings, 60, 1, compress=True)
    values = [rows.resolved(n) for n in range(2_000)]
    packed.insert(Insert("landing_events", values[0][:10], values, "t"))
    packed.close()
    assert tables.count("events") == 2_000


# --- what analysts read


def test_nested_properties_can_be_queried_as_columns(tables: Tables) -> None:
    tables.insert("landing_events", rows.resolved(1, properties='{"price":3.5,"a":{"b":7}}'))
    sql = "SELECT properties.price::Float64, properties.a.b::Int64 FROM weir.events"
    assert tables.ask(sql) == [[3.5, 7]]


def test_events_of_merged_profiles_belong_to_one_profile(tables: Tables) -> None:
    names = ("a", "p", "u", "b", "other")
    tables.insert("landing_events", *(rows.resolved(n, name) for n, name in enumerate(names)))
    assert tables.one("SELECT uniqExact(profile_id) FROM weir.events_current") == 5
    tables.insert(
        "landing_merge",
        *(rows.merge("a", "p"), rows.merge("p", "u"), rows.merge("b", "a")),
        rows.merge("other", "u", refused=True),
    )
    assert tables.ask(
        "SELECT profile_id, count() FROM weir.events_current GROUP BY 1 ORDER BY 1"
    ) == [
        ["other", 1],
        ["u", 4],
    ]
    assert tables.ask("SELECT from_profile, into_profile FROM weir.conflicts") == [["other", "u"]]


def test_a_visit_is_one_session_across_merged_identifiers(tables: Tables) -> None:
    def at(number: int, minutes: int, person: str, session: str, **fields: Any) -> bytes:
        return rows.resolved(number, person, session, occurred_at=NOON + minutes * MINUTE, **fields)

    tables.insert(
        "landing_events",
        at(1, 0, "a", "s1", anonymous_id="x", event="first"),
        at(2, 10, "a", "s1", anonymous_id="x"),
        at(3, 40, "u", "s2", user_id="u1", event="last"),  # after exactly 30 minutes: joins
        at(4, 71, "u", "s3", user_id="u1"),  # after 31: does not
        at(5, 20, "u", "own", client_session_id="own"),  # the client's own stands
        at(6, 25, "u", "far", source="other"),  # another source
        at(7, 30, "stranger", "s9"),
        at(8, 30, "", ""),
    )
    tables.insert("landing_merge", rows.merge("a", "u"))
    sessions = tables.ask(
        "SELECT session_id, profile_id, events, duration_seconds, entry_event, exit_event,"
        " user_ids, anonymous_ids FROM weir.sessions ORDER BY session_id"
    )
    page = ["page_view", "page_view"]
    assert sessions == [
        ["far", "u", 1, 0, *page, [], []],
        ["own", "u", 1, 0, *page, [], []],
        ["s1", "u", 3, 2_400, "first", "last", ["u1"], ["x"]],
        ["s3", "u", 1, 0, *page, ["u1"], []],
        ["s9", "stranger", 1, 0, *page, [], []],
    ]
    current = tables.ask(
        "SELECT session_id, count() FROM weir.events_current GROUP BY 1 ORDER BY 1"
    )
    assert current == [["", 1], ["far", 1], ["own", 1], ["s1", 3], ["s3", 1], ["s9", 1]]


def test_a_session_ends_after_the_session_gap_of_its_source(tables: Tables) -> None:
    """The source's latest event with a gap decides; events of earlier versions carry none."""
    starts = {"long": (0, 60, 121), "short": (0, 1, 3)}
    for source, gap in (("long", 3_600), ("short", 60)):
        events = [
            rows.resolved(
                100 * gap + number,
                "u",
                f"{source}-{number}",
                source=source,
                occurred_at=NOON + minutes * MINUTE,
                session_gap_seconds=gap,
            )
            for number, minutes in enumerate(starts[source])
        ]
        tables.insert("landing_events", *events)
    accepted = avro.schemas()["Accepted"].fields
    (before,) = [
        schema
        for schema in avro.schemas_by_header().values()
        if schema.name == "Resolved" and schema.fields == [*accepted, "profile_id", "session_id"]
    ]
    _, record = avro.decode_any(rows.resolved(7, "v", "own", source="long", received_at=NOON + 9))
    tables.insert("landing_events", before.encode(record))
    assert tables.ask(
        "SELECT source, session_id, events FROM weir.sessions WHERE profile_id = 'u'"
        " ORDER BY source, session_id"
    ) == [
        ["long", "long-0", 2],
        ["long", "long-2", 1],
        ["short", "short-0", 2],
        ["short", "short-2", 1],
    ]


def test_a_late_event_joins_two_sessions(tables: Tables) -> None:
    times = {"s1": 0, "s2": 50}
    for number, (session, minutes) in enumerate(times.items()):
        event = rows.resolved(number, "u", session, occurred_at=NOON + minutes * MINUTE)
        tables.insert("landing_events", event)
    assert tables.count("sessions") == 2
    late = rows.resolved(9, "u", "s1", occurred_at=NOON + 25 * MINUTE)
    tables.insert("landing_events", late)
    assert tables.ask("SELECT session_id, events FROM weir.sessions") == [["s1", 3]]


def test_a_profile_is_the_sum_of_its_parts(tables: Tables) -> None:
    tables.insert(
        "landing_profile",
        rows.profile("a:x", "a", 1, events=1),
        rows.profile("a:x", "a", 2, events=2, traits='{"plan":"free","big":12345678901234567}'),
        rows.profile("u:7", "u", 1, events=3, traits='{"plan":"pro","o":{"p":1}}', traits_at=NOON),
        rows.profile("u:8", "v", 1, events=0),
    )
    tables.insert("landing_merge", rows.merge("a", "u"))
    event = rows.resolved(1, "a", "s1")
    tables.insert("landing_events", event, rows.resolved(2, "u", "s1x", occurred_at=NOON + 1))
    found = tables.ask(
        "SELECT profile_id, user_ids, anonymous_ids, events, sessions, traits.plan::String,"
        " traits.big::Int64, traits.o.p::Int64 FROM weir.profiles ORDER BY profile_id"
    )
    assert [[str(x) if isinstance(x, int) else x for x in row] for row in found] == [
        ["u", ["7"], ["x"], "5", "1", "pro", "12345678901234567", "1"],
        ["v", ["8"], [], "0", "0", "", "0", "0"],
    ]


def test_a_trait_at_several_identifiers_has_its_latest_value(tables: Tables) -> None:
    """Traits are learned as identity learns them, and a row of an earlier version stands beside them."""

    def learned(key: str, *events: tuple[int, int, str]) -> bytes:
        person = Person("acme", key, "p")
        for at, number, traits in events:
            learn(person, identify(at, traits, number))
        return encode_person(person)

    tables.insert(
        "landing_profile",
        learned("a:x", (10, 1, '{"plan":"free","city":"Oslo"}'), (30, 3, '{"color":"red"}')),
        learned("u:7", (20, 2, '{"plan":"pro"}'), (-5, 4, '{"city":"Rome"}')),
        learned("u:8", (30, 5, '{"color":"blue"}')),  # at the same time, and received later
        rows.profile("u:9", "p", traits='{"plan":"old","age":7}', traits_at=15),
    )
    found = tables.one("SELECT toJSONString(traits) FROM weir.profiles")
    assert json.loads(str(found)) == {"plan": "pro", "city": "Oslo", "color": "blue", "age": 7}


def test_traits_whose_names_come_to_one_path_leave_the_view_readable(tables: Tables) -> None:
    """`a.b` is written `a%2Eb`: a person who sends both must not make the query fail for everybody."""
    tables.insert(
        "landing_profile",
        rows.profile(
            "u:1", "p", traits='{"a.b":1,"a%2Eb":2,"o":[{"x.y":1,"x%2Ey":2}],"plan":"pro"}'
        ),
        rows.profile("u:2", "q", traits='{"a":{"b":1},"a.b":2,"plan":"free"}'),
    )
    found = tables.ask("SELECT traits.plan::String, toString(traits) FROM weir.profiles ORDER BY 1")
    assert [row[0] for row in found] == ["free", "pro"]
    assert json.loads(str(found[0][1]))["a"] == {"b": 1}


BOOKS = (
    "accepted, stored, duplicate, dead, unsaved, recovered, erased, in_flight, difference"
    " FROM weir.books"
)


def test_the_books_count_every_outcome_and_show_a_difference(tables: Tables) -> None:
    tables.insert(
        "landing_usage_delta",
        rows.usage("accepted", 10, 10),
        rows.usage("unique", 8, 10),
        rows.usage("duplicate", 1, 10),
        rows.usage("dead", 1, 10),
        rows.usage("unsaved", 2, 8, stage="identity"),
        rows.usage("dead", 1, 8, stage="identity"),
        rows.usage("resolved", 5, 8, stage="identity"),
    )
    tables.insert("landing_rejected", rows.rejected(1), rows.rejected(2))
    tables.insert("landing_events", *(rows.resolved(n) for n in range(4)))
    assert tables.ask(f"SELECT {BOOKS}") == [[10, 4, 1, 2, 2, 0, 0, 1, 0]]
    of_sink: dict[str, Any] = {"step": "sink", "origin_topic": "events.resolved", "source": "shop"}
    for _ in range(2):
        tables.insert("landing_dead_letter", rows.dead_letter(**of_sink, received_at=NOON))
    assert tables.ask(f"SELECT {BOOKS}") == [[10, 4, 1, 3, 2, 0, 0, 0, 0]]
    counted = tables.ask("SELECT events, bytes FROM weir.usage WHERE outcome = 'rejected'")
    assert counted == [[2, 6]]
    tables.insert("landing_events", *(rows.resolved(n) for n in range(10, 12)))
    ((*_, in_flight, difference),) = tables.ask(f"SELECT {BOOKS}")
    assert (in_flight, difference) == (0, -2)


@pytest.mark.parametrize(
    ("step", "letter", "again", "book"),
    [
        # given up by dedup, read once more from events.accepted, resolved and stored
        (
            "dedup",
            "events.accepted/1/7",
            [("accepted", 2, "dedup"), ("dead", 1, "dedup"), ("unique", 1, "dedup")],
            [1, 1, 0, 0, 0, 1, 0, 0, 0],
        ),
        (
            "identity",
            "events.unique/1/7",
            [("accepted", 1, "dedup"), ("unique", 1, "dedup"), ("dead", 1, "identity")],
            [1, 1, 0, 0, 0, 1, 0, 0, 0],
        ),
        (
            "sink",
            "events.resolved/1/7",
            [("accepted", 1, "dedup"), ("unique", 1, "dedup")],
            [1, 1, 0, 0, 0, 1, 0, 0, 0],
        ),
    ],
)
def test_a_replayed_dead_letter_is_recovered_and_counts_once_in_the_books(
    tables: Tables,
    step: str,
    letter: str,
    again: list[tuple[str, int, str]],
    book: list[int],
) -> None:
    accounts = [rows.usage(name, n, 10, stage=stage) for name, n, stage in again]
    tables.insert("landing_usage_delta", *accounts, rows.usage("resolved", 1, 8, stage="identity"))
    tables.insert("landing_events", rows.resolved(1))
    topic, _, offset = letter.split("/")
    tables.insert(
        "landing_dead_letter",
        rows.dead_letter(
            int(offset), step=step, origin_topic=topic, source="shop", received_at=NOON
        ),
    )
    assert tables.ask(f"SELECT {BOOKS}") != [book]  # dead as well as stored
    tables.schema.execute(
        f"INSERT INTO {tables.database}.recoveries (letter, kind, step, source, received_at)"
        f" VALUES ('{letter}', 'dead', '{step}', 'shop', fromUnixTimestamp64Milli({NOON}))"
    )
    assert tables.ask(f"SELECT {BOOKS}") == [book]
    assert tables.one("SELECT short_of_dead_rows FROM weir.ledger") == 0


def test_the_books_count_erased_rows_and_report_none_missing(tables: Tables) -> None:
    tables.insert(
        "landing_usage_delta",
        rows.usage("accepted", 6, 10),
        rows.usage("unique", 5, 10),
        rows.usage("duplicate", 1, 10),
        rows.usage("resolved", 3, 8, stage="identity"),
        rows.usage("erased", 1, 8, stage="identity"),
        rows.usage("dead", 1, 8, stage="identity"),
    )
    tables.insert("landing_events", *(rows.resolved(n) for n in range(3)))
    tables.insert("landing_duplicate", rows.duplicate(7))
    tables.insert(
        "landing_dead_letter", rows.dead_letter(step="identity", source="shop", received_at=NOON)
    )
    tables.insert(TABLES["Erasure"], finished := rows.erasure("finished"))
    erasure_id = avro.decode_any(finished)[1]["erasure_id"]
    tables.schema.execute(f"TRUNCATE TABLE {tables.database}.erased_rows")
    gone = ", ".join(
        f"(toUUID('{erasure_id}'), '{place}', '{step}', 'shop',"
        f" toDateTime(intDiv({NOON}, 1000), 'UTC'), {n})"
        for place, step, n in [("events", "", 2), ("duplicates", "", 1), ("dead", "identity", 1)]
    )
    database = tables.database
    for statement in (
        f"ALTER TABLE {database}.events DELETE WHERE event_id IN"
        f" (SELECT event_id FROM {database}.events ORDER BY event_id LIMIT 2)",
        f"DELETE FROM {database}.duplicates WHERE source = 'shop'",
        f"DELETE FROM {database}.dead WHERE source = 'shop'",
        f"INSERT INTO {database}.erased_rows (erasure_id, place, step, source, minute, rows)"
        f" VALUES {gone}",
    ):
        tables.schema.execute(
            f"{statement} SETTINGS mutations_sync = 2".replace(
                f"VALUES {gone} SETTINGS mutations_sync = 2", f"VALUES {gone}"
            )
        )
    assert tables.ask(f"SELECT {BOOKS}") == [[6, 1, 1, 1, 0, 0, 3, 0, 0]]
    shorts = "short_of_rows, short_of_duplicate_rows, short_of_dead_rows, has_fingerprints"
    assert tables.ask(f"SELECT {shorts} FROM weir.ledger") == [[0, 0, 0, 0]]


def test_the_ledger_fingerprint_shows_a_lost_row_behind_a_doubled_one(tables: Tables) -> None:
    ids = [accepted(n)["event_id"] for n in range(3)]
    counted: dict[str, Any] = {"topic_id": "t", "fingerprint": signed(id_checksum(ids))}
    tables.insert(
        "landing_usage_delta",
        rows.usage("accepted", 3, 3),
        rows.usage("unique", 3, 3, **counted),
        rows.usage("resolved", 3, 3, stage="identity", **counted),
    )
    tables.insert("landing_events", *(rows.resolved(n) for n in range(3)))
    sql = "SELECT short_of_rows, resolved_others, stored_others FROM weir.ledger"
    assert tables.ask(sql) == [[0, 0, 0]]
    tables.schema.execute(f"TRUNCATE TABLE {tables.database}.events")
    # the same id twice, an hour apart by the client's account: no row replaces the other
    hours = [rows.resolved(0, occurred_at=NOON + hour * 24 * 60 * MINUTE) for hour in (0, 1)]
    tables.insert("landing_events", *hours, rows.resolved(1))
    short, resolved, stored = tables.ask(sql)[0]
    assert (short, int(resolved)) == (0, 0)
    assert int(stored) != 0


def test_rows_from_before_migration_9_are_in_the_books(warehouse: RunningWarehouse) -> None:
    old = Tables(warehouse.url)
    files = read_migrations()
    apply_migrations(old.schema, old.dialect, [file for file in files if file.number < 9])
    old.insert("landing_usage_delta", rows.usage("accepted", 3, 3), rows.usage("unique", 3, 3))
    old.insert("landing_usage_delta", rows.usage("resolved", 3, 3, stage="identity"))
    old.insert("landing_resolved", *(rows.resolved(n) for n in range(3)))
    apply_migrations(old.schema, old.dialect)
    assert old.ask(f"SELECT {BOOKS}") == [[3, 3, 0, 0, 0, 0, 0, 0, 0]]
    assert old.ask("SELECT has_fingerprints FROM weir.ledger") == [[0]]
    old.insert("landing_usage_delta", rows.usage("accepted", 1, 4), rows.usage("unique", 1, 4))
    assert old.ask(f"SELECT {BOOKS}") == [[4, 3, 0, 0, 0, 0, 0, 1, 0]]
    old.close()


def test_the_books_of_a_time_range_read_projections_instead_of_rows(tables: Tables) -> None:
    tables.insert("landing_events", *(rows.resolved(n) for n in range(3)))
    tables.insert("landing_usage_delta", rows.usage("accepted", 3, 3))
    plan = "\n".join(
        str(line)
        for (line,) in tables.ask(
            "EXPLAIN projections = 1 SELECT source, sum(stored) FROM weir.books"
            " WHERE minute >= toDateTime('2025-01-01', 'UTC') AND source = 'shop' GROUP BY source"
        )
    )
    assert plan.count("ReadFromMergeTree (by_minute)") == 2, plan
    assert f"ReadFromMergeTree ({tables.database}.events)" not in plan
    assert f"ReadFromMergeTree ({tables.database}.usage_deltas)" not in plan


def test_the_rates_view_returns_current_and_peak_rate_of_a_source(tables: Tables) -> None:
    tables.insert("landing_source_usage", rows.source_usage())
    assert tables.ask("SELECT source, current_rate, peak_rate FROM weir.rates") == [
        ["shop", 1.5, 3]
    ]


QUOTAS = "SELECT name, used, `limit`, exceeded, toUnixTimestamp64Milli(resets_at) FROM weir.quotas"


def test_the_quotas_view_returns_usage_of_the_current_period(tables: Tables) -> None:
    ends = now_ms() + 3_600_000
    tables.insert("landing_source_usage", rows.source_usage(resets_at=ends))
    assert tables.ask(QUOTAS) == [["daily", 11, 10, True, ends]]


@pytest.mark.parametrize("period", PERIODS)
def test_a_quota_whose_period_has_ended_is_unused_in_the_current_period(
    tables: Tables, period: Period
) -> None:
    tables.insert("landing_source_usage", rows.source_usage(period=period, resets_at=NOON))
    earliest = ends_at(period, now_ms())
    ((*quota, resets_at),) = tables.ask(QUOTAS)
    assert quota == ["daily", 0, 10, False]
    assert resets_at in (earliest, ends_at(period, now_ms()))


def test_every_documented_analyst_query_runs(tables: Tables) -> None:
    text = (ROOT / "docs" / "analysts.md").read_text()
    queries = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert len(queries) >= 10
    for query in queries:
        tables.ask(query.strip().rstrip(";"))


def test_migrations_are_applied_from_a_custom_folder(tables: Tables, tmp_path: Path) -> None:
    (tmp_path / "900_own.sql").write_text(
        "CREATE TABLE IF NOT EXISTS {{database}}.own {{cluster}} (x Int8)\n"
        "ENGINE = {{engine MergeTree}} ORDER BY x SETTINGS {{deduplication}};\n"
    )
    apply_migrations(tables.schema, tables.dialect, read_migrations(tmp_path))
    assert tables.count("own") == 0


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_repeated_insert_counts_once_after_an_engine_restart(tmp_path: Path, end: str) -> None:
    own = start_warehouse(tmp_path)
    tables = Tables(own.url)
    apply_migrations(tables.schema, tables.dialect)
    values = [rows.resolved(n, f"p{n % 5}", f"s{n % 7}") for n in range(60)]
    tables.insert("landing_events", *values, token="range")
    own.kill() if end == "kill" else own.stop()
    own = start_warehouse(tmp_path, own.port)
    tables.insert("landing_events", *values, token="range")  # as the sink repeats it
    tables.insert("landing_events", values[0], token="range")  # as the ordinary row is sent again
    assert tables.count("events") == 60
    assert tables.one("SELECT sum(events) FROM weir.session_segments") == 60
    own.stop()
