"""Any JSON is stored, read and erased on the real engine, in parts of a bounded number of files."""

import json
import re
import uuid
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.support import records as rows
from tests.support.events import NOON
from tests.support.migrated_tables import Tables
from tests.support.running_warehouse import RunningWarehouse
from weir.adapters import avro
from weir.adapters.clickhouse.insert import ClickHouseRows
from weir.core.resource_paths import ROOT
from weir.runtime.sink_ports import Examination, Insert, RowsRefusedError, WarehouseAwayError
from weir.sink.migrations import apply_migrations, read_migrations
from weir.sink.step import TABLES

FILES_A_PART = 20  # whatever its rows hold
BATCHES = 2


@pytest.fixture
def tables(own_tables: Tables) -> Tables:
    """One of the test's own: some of these tests stop merges or harm columns."""
    return own_tables


def own_names(number: int, names: int = 4_000) -> str:
    return json.dumps({f"n{number}_{name}": name for name in range(names)})


def names_in_array(number: int, items: int = 3_000) -> str:
    return json.dumps({"k": [{f"{number:x}_{item:x}": 1} for item in range(items)]})


def nested(number: int, depth: int = 3, names: int = 5) -> Any:
    """Arrays of objects in arrays of objects, every name of its own."""
    inner = nested(number, depth - 1, names) if depth else number
    return {f"d{number}_{depth}_{name}": [inner] for name in range(names)}


def every_type(number: int) -> str:
    values = [
        *(1, -1, 2**63, 2**64, 1.5, True, "a", "2024-01-01", [], [1], ["a"], [1.5], [True]),
        *([None], [[1]], [["a"]], [{"x": 1}], [{"x": "a"}], [[{"y": 1}]], [1, "a"], {"x": 1}),
    ]
    return json.dumps({f"p{n}": values[(number + n) % len(values)] for n in range(300)})


ODD = [
    '{"":1,"a":{"":2},"b":{"":{"":3}}}',
    '{"a`b":1,"q\\"r":2,"c\\u0001":3,"n\\u0000x":4,"l\\nm":5,"\\ud83d\\ude00":6,"back\\\\slash":7}',
    '{".":1,"..":2,".a":3,"a.":4,"a..b":5,"%2E":6,"%":7}',
    '{"a":1,"a":2,"b":{"c":1},"b":{"d":2},"z":{"y":1},"z":3}',
    '{"a":123456789012345678901234567890,"b":-9223372036854775809,"c":1e300,"d":-0,"e":0.10}',
    '{"a":{"b":1},"a.b":2,"c":[{"d.e":1,"d":{"e":2}}]}',
    '{"a":[[[1],[]],[],[[null]]],"b":[{},{"c":[]}],"d":[1,"a",null,true,{"e":[2]},[3]]}',
    '{"a":' + "[" * 30 + "1" + "]" * 30 + "}",
    '{"a":' * 30 + "1" + "}" * 30,
    json.dumps({"n" * 60_000: 1, "m" * 60_000: {"x" * 1_000: 2}}),
    json.dumps({"k": list(range(20_000))}),
    json.dumps({"k": [n if n % 2 else str(n) for n in range(10_000)]}),
    json.dumps({"k": [{}] * 20_000}),
]
WIDE = {
    "names of their own": [own_names(n) for n in range(3)],
    "names inside arrays": [names_in_array(n) for n in range(4)],
    "names inside arrays inside arrays": [json.dumps(nested(n)) for n in range(4)],
    "the same paths with every type": [every_type(n) for n in range(40)],
    "odd names and values": ODD,
}


@pytest.mark.parametrize("kind", WIDE)
def test_any_json_is_stored_read_and_erased_in_parts_of_few_files(
    warehouse: RunningWarehouse, tables: Tables, kind: str
) -> None:
    texts = WIDE[kind]
    for batch in range(BATCHES):
        numbers = range(batch * len(texts), (batch + 1) * len(texts))
        values = [
            rows.resolved(n, "p", properties=t, context=t)
            for n, t in zip(numbers, texts, strict=True)
        ]
        tables.insert("landing_events", *values)
    assert tables.count("events") == BATCHES * len(texts)
    tables.schema.execute(f"OPTIMIZE TABLE {tables.database}.events FINAL")
    assert most_files(tables) <= FILES_A_PART
    read = "SELECT count(), countIf(isValidJSON(toString(properties))) FROM weir.events FINAL"
    assert tables.ask(read) == [[BATCHES * len(texts)] * 2]
    stored = tables.ask("SELECT properties_text, context_text FROM weir.events_current")
    assert sorted(stored) == sorted([text, text] for text in texts * BATCHES)
    tables.schema.execute(
        f"ALTER TABLE {tables.database}.events DELETE WHERE"
        f" properties_text != '{quoted(texts[0])}' SETTINGS mutations_sync = 2"
    )
    assert tables.count("events") == BATCHES * texts.count(texts[0])
    assert most_files(tables) <= FILES_A_PART


def most_files(tables: Tables) -> int:
    paths = tables.ask(
        "SELECT path FROM system.parts WHERE active AND table = 'events'"
        f" AND database = '{tables.database}'"
    )
    assert paths
    return max(len(list(Path(path).iterdir())) for (path,) in paths)


def quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def test_rows_from_before_migration_10_stay_readable_and_their_parts_are_rewritten(
    warehouse: RunningWarehouse,
) -> None:
    old = Tables(warehouse.url)
    before = [file for file in read_migrations() if file.number < 10]
    apply_migrations(old.schema, old.dialect, before)
    text = '{"price":1.5,"a.b":2,"items":[{"sku":"x"}]}'
    schema = f"{old.database}.events"
    old.schema.execute(
        f"INSERT INTO {schema} (event_id, source, received_at, properties, context)"
        " SETTINGS json_type_escape_dots_in_keys = 0"
        f" SELECT toUUID('00000000-0000-0000-0000-00000000000' || number), 'shop', now64(3), '{text}',"
        " '{}' FROM numbers(3)"
    )
    old.schema.execute(f"SYSTEM STOP MERGES {schema}")
    apply_migrations(old.schema, old.dialect)
    readable = (
        "SELECT properties.price::Float64, properties.a.b::Int64, properties.items[].sku::Array(String),"
        " properties_text FROM weir.events_current"
    )
    expected = [[1.5, 2, ["x"], ""]] * 3
    unfinished = (
        f"SELECT count() FROM system.mutations WHERE database = '{old.database}' AND NOT is_done"
    )
    assert old.one(unfinished) > 0
    assert old.ask(readable) == expected
    old.insert("landing_events", rows.resolved(9, properties=text))
    assert old.count("events") == 4
    old.schema.execute(f"SYSTEM START MERGES {schema}")
    old.schema.execute(f"OPTIMIZE TABLE {schema} FINAL")  # waits for the mutation, too
    assert old.one(unfinished) == 0
    assert old.ask(readable + " WHERE properties_text = ''") == expected
    assert most_files(old) <= FILES_A_PART
    old.close()


# --- what was sent is not changed without a word


def test_dotted_names_nulls_and_empty_objects_are_stored_and_readable(tables: Tables) -> None:
    text = (
        '{"a":{"b":1}, "a.b":2, "n":null, "o":{}, "d":[null], "big":18446744073709551616, "f":1.0}'
    )
    tables.insert("landing_events", rows.resolved(1, properties=text))
    assert tables.ask(
        "SELECT properties.a.b::Int64, properties.`a%2Eb`::Int64, properties.big::String,"
        " JSONHas(properties_text, 'n'), JSONType(properties_text, 'o'), properties_text"
        " FROM weir.events_current"
    ) == [[1, 2, "18446744073709551616", 1, "Object", text]]
    assert tables.one("SELECT toString(properties) FROM weir.events") == (
        '{"a.b":2,"a":{"b":1},"big":"18446744073709551616","d":[null],"f":1}'
    )


NUMBER = "ifNotFinite(toFloat64OrNull(toString(properties.price)), NULL)"  # as documented
PRICES: dict[str, float | None] = {
    "12.5": 12.5,
    '"12.5"': 12.5,
    "12": 12,
    "12.0": 12,
    "1e3": 1_000,
    "-3": -3,
    "9223372036854775808": 2.0**63,
    "18446744073709551616": 2.0**64,
    **dict.fromkeys(["[12.5]", '""', '{"amount":12.5}', "null", "true", "[]", "{}"]),
    **dict.fromkeys(['"NaN"', '"inf"', '"1e999"', '"12 EUR"', '[{"a":1}]', '[1,"a"]']),
}


def analysts_page() -> str:
    return (ROOT / "docs" / "analysts.md").read_text()


def test_the_documented_number_expression_reads_every_number_and_never_fails(
    tables: Tables,
) -> None:
    assert NUMBER in analysts_page()
    values = [rows.resolved(n, properties=f'{{"price":{p}}}') for n, p in enumerate(PRICES)]
    tables.insert("landing_events", *values, rows.resolved(99, properties="{}"))
    read = f"SELECT properties_text, {NUMBER} FROM weir.events_current"
    expected = {f'{{"price":{price}}}': number for price, number in PRICES.items()} | {"{}": None}
    found = {text: None if n is None else float(n) for text, n in tables.ask(read)}
    assert found == expected
    sums = tables.ask(f"SELECT sum({NUMBER}), count({NUMBER}) FROM weir.events")
    numbers = [number for number in PRICES.values() if number is not None]
    assert [[float(total), count] for total, count in sums] == [[sum(numbers), len(numbers)]]


def test_the_documented_analyst_queries_run_on_properties_of_any_type(tables: Tables) -> None:
    kinds = [
        *PRICES,
        '"2024-02-30"',
        "[[1]]",
        '[{"sku":1,"quantity":"x"},{"sku":[],"quantity":1.5}]',
    ]
    names = ("price", "currency", "items", "path", "url", "experiment_key", "variation_key")
    values = [
        rows.resolved(
            n,
            "p",
            "s",
            event=event,
            properties="{" + ",".join(f'"{name}":{kind}' for name in names) + "}",
        )
        for n, (kind, event) in enumerate(product(kinds, ("purchase", "page_view", "$exposure")))
    ]
    tables.insert(
        "landing_events",
        *values,
        *(rows.resolved(900 + n, properties=t) for n, t in enumerate(ODD)),
    )
    queries = re.findall(r"```sql\n(.*?)```", analysts_page(), re.DOTALL)
    for query in queries:
        tables.ask(query.strip())


# --- an insert that fails: whose fault is it?


def failing(tables: Tables, *values: bytes) -> Insert:
    return Insert("landing_events", values[0][:10], values, f"failing:{uuid.uuid4()}")


@pytest.mark.parametrize("something_went_in", [True, False])
def test_the_probe_row_of_an_examination_is_inserted_and_never_visible(
    tables: Tables, something_went_in: bool
) -> None:
    if something_went_in:
        tables.insert("landing_events", *(rows.resolved(n, "p", "s") for n in range(5)))
    before = tables.ask("SELECT count() FROM weir.events"), visits(tables)
    for _ in range(3):
        finding = tables.rows.examine(failing(tables, rows.resolved(9, properties="[")))
        assert finding == Examination(ordinary_in=True, rows_in=False)
    assert (tables.ask("SELECT count() FROM weir.events"), visits(tables)) == before
    assert tables.ask("SELECT source FROM weir.books WHERE source = ''") == []


def visits(tables: Tables) -> list[list[Any]]:
    return tables.ask("SELECT session_id, sum(events) FROM weir.session_segments GROUP BY 1")


@pytest.mark.parametrize("something_went_in", [True, False])
@pytest.mark.parametrize(
    "harm",
    [
        "ALTER TABLE {table} MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1",
        "ALTER TABLE {table} ADD CONSTRAINT nothing CHECK length(door) > 100",
        "RENAME TABLE {table} TO {table}_elsewhere",
    ],
)
def test_an_examination_blames_no_row_when_the_table_accepts_none(
    tables: Tables, harm: str, something_went_in: bool
) -> None:
    table = f"{tables.database}.events"
    if something_went_in:
        tables.insert("landing_events", rows.resolved(1, "p", "s"))
    else:
        tables.schema.execute(f"SYSTEM STOP MERGES {table}")
        other = f"INSERT INTO {table} (source) VALUES ('other')"
        tables.schema.execute(other)
    tables.schema.execute(harm.format(table=table))
    value = rows.resolved(2, "p", "s")
    with pytest.raises((RowsRefusedError, WarehouseAwayError)):
        tables.insert("landing_events", value)
    assert not tables.rows.examine(failing(tables, value)).ordinary_in


def test_an_examination_finds_rows_that_are_already_stored(tables: Tables) -> None:
    values = [rows.resolved(n, received_at=NOON + n * 40 * 86_400_000) for n in range(4)]
    tables.insert("landing_events", *values[:1])
    assert tables.rows.examine(failing(tables, *values)).rows_in
    assert tables.rows.examine(failing(tables, b"garbage", values[0])).rows_in
    assert not tables.rows.examine(failing(tables, *values[1:])).rows_in


def test_an_insert_beyond_its_own_memory_limit_fails_and_stores_nothing(tables: Tables) -> None:
    small = ClickHouseRows(tables.settings, 60, 1, compress=False, memory_bytes=30_000_000)
    values = [rows.resolved(n, properties=names_in_array(n)) for n in range(20)]
    with pytest.raises(WarehouseAwayError, match="code 241") as raised:
        small.insert(failing(tables, *values))
    assert (raised.value.code, raised.value.answered, raised.value.of_server) == (
        "241",
        True,
        False,
    )
    assert tables.count("events") == 0
    small.insert(failing(tables, rows.resolved(99)))
    small.close()


def test_merges_are_bounded_in_number_and_parts(tables: Tables) -> None:
    """Bounds on number and parts replace memory limits, which merges ignore."""
    table = tables.one(
        f"SELECT engine_full FROM system.tables WHERE database = '{tables.database}' AND name = 'events'"
    )
    assert "max_parts_to_merge_at_once = 8" in table
    ratio = "background_merges_mutations_concurrency_ratio"
    assert (
        float(tables.one(f"SELECT value FROM system.server_settings WHERE name = '{ratio}'")) == 1
    )


@pytest.mark.parametrize("name", [name for name in TABLES if name != "Resolved"])
def test_a_refused_record_is_known_to_be_at_fault_in_a_table_without_a_recent_insert(
    tables: Tables, name: str
) -> None:
    """After a restart, and in topics of few records, no ordinary row is known."""
    header = avro.schemas()[name].header
    fresh = ClickHouseRows(tables.settings, 60, 2, compress=False)
    bad = Insert(TABLES[name], header, [header + b"\xff" * 30], f"bad-{name}")
    try:
        with pytest.raises(RowsRefusedError):
            fresh.insert(bad)
        assert fresh.examine(bad).form_taken
    finally:
        fresh.close()
    left = f"SELECT count() FROM system.tables WHERE database = '{tables.database}' AND name LIKE 'probe%'"
    assert tables.ask(left) == [[0]]
