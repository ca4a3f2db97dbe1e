"""`weir sql` formats cells, recognises queries with their own FORMAT and shortens errors."""

from typing import Any

import pytest

from weir.adapters.clickhouse.query import one_line
from weir.cli.sql import NUMBER_TYPE, OWN_FORMAT, cell


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        ("", ""),
        ("größe", "größe"),
        (7, "7"),
        (0.1, "0.1"),
        (1 / 3, "0.333333333333333"),
        (True, "true"),
        ([1, "a"], '[1,"a"]'),
        ({"a": {"b": None}}, '{"a":{"b":null}}'),
    ],
)
def test_a_cell_shows_a_value_as_readable_text(value: Any, text: str) -> None:
    assert cell(value) == text


@pytest.mark.parametrize(
    ("sql", "own"),
    [
        ("SELECT 1 FORMAT CSV", True),
        ("SELECT 1\nformat JSONEachRow ;\n", True),
        ("SELECT format('{}', 1)", False),
        ("SELECT 1", False),
    ],
)
def test_a_query_with_its_own_format_clause_is_recognised(sql: str, own: bool) -> None:
    assert (OWN_FORMAT.search(sql) is not None) == own


@pytest.mark.parametrize(
    ("kind", "numeric"),
    [("UInt64", True), ("Nullable(Float64)", True), ("Decimal(9, 2)", True), ("String", False)],
)
def test_a_numeric_column_is_recognised_by_its_type(kind: str, numeric: bool) -> None:
    assert (NUMBER_TYPE.match(kind) is not None) == numeric


@pytest.mark.parametrize(
    "text",
    [
        "HTTPDriver for http://127.0.0.1:8123 returned response code 404) Code: 60. "
        "DB::Exception: Unknown table x.\n(UNKNOWN_TABLE) (version 26.9.2.1)",
        "Code: 60. Unknown table x. (UNKNOWN_TABLE) (for url http://127.0.0.1:8123)",
        "Unknown table x. (UNKNOWN_TABLE)",
    ],
)
def test_an_error_is_shortened_to_one_line_of_clickhouses_own_message(text: str) -> None:
    assert one_line(text) == "Unknown table x. (UNKNOWN_TABLE)"
