"""Streamed pieces of a query result are joined into one document."""

import pytest

from weir.embedded.clickhouse.engine import QueryOutcome
from weir.embedded.clickhouse.results import content_type, flows, without_repeated_names


@pytest.mark.parametrize(
    ("form", "pieces"),
    [
        ("TSVWithNames", [b"a\tb\n1\t2\n", b"a\tb\n3\t4\n", b"a\tb\na\tb\n"]),
        ("CSVWithNames", [b'"a","b"\n1,2\n', b'"a","b"\n"a","b"\n']),
        ("CSVWithNames", [b'"a\n""b"\n1\n', b'"a\n""b"\n2\n']),
    ],
)
def test_joined_pieces_have_one_header_of_column_names(form: str, pieces: list[bytes]) -> None:
    names = pieces[0][: len(pieces[0]) - len(pieces[0].splitlines(keepends=True)[-1])]
    joined = b"".join(
        piece.content
        for piece in without_repeated_names(iter([QueryOutcome(piece) for piece in pieces]), form)
    )
    assert joined == names + b"".join(piece.removeprefix(names) for piece in pieces)


def test_only_row_formats_are_streamed() -> None:
    assert all(flows(form) for form in ("Native", "CSV", "JSONEachRow", "TabSeparatedWithNames"))
    assert not any(flows(form) for form in ("JSON", "Parquet", "Pretty", "XML", "Values"))


def test_each_format_has_its_content_type() -> None:
    assert content_type("JSONEachRow").startswith("application/x-ndjson")
    assert content_type("JSONCompact").startswith("application/json")
    assert content_type("Native") == "application/octet-stream"
    assert content_type("Pretty") == "text/plain"
