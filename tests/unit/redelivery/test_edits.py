"""An edit sets or removes the value at a JSON path and leaves all other bytes unchanged."""

import json

import pytest

from weir.redelivery.edits import (
    NoSuchPathError,
    PathError,
    assignment,
    removal,
    shown,
)

DOCUMENT = b'{"n":1.10,"big":12345678901234567890123,"a":{"b":[1,{"x y":2}]},"e":"\\u00e9"}'


@pytest.mark.parametrize(
    ("edit", "path"),
    [
        ("a.b=1", ("a", "b")),
        ("$.a.b=1", ("a", "b")),
        ('a["x.y=z"]=1', ("a", "x.y=z")),
        ('$["x"][0].y=1', ("x", 0, "y")),
        ("[2].c=1", (2, "c")),
        ("$set=1", ("$set",)),
    ],
)
def test_a_path_is_parsed_into_names_and_indexes(edit: str, path: tuple[str | int, ...]) -> None:
    assert assignment(edit).path == path
    assert assignment(shown(path) + "=1").path == path


@pytest.mark.parametrize("text", ["", "=1", "a b=1", "a", ".a=1", "a[x]=1", "a..b=1", "a]b=1"])
def test_an_invalid_assignment_raises_a_path_error(text: str) -> None:
    with pytest.raises(PathError):
        assignment(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.50", b"12.50"),
        ("u1", b'"u1"'),
        ('"12"', b'"12"'),
        ("null", b"null"),
        ('{"b": [1]}', b'{"b": [1]}'),
        ("a=b", b'"a=b"'),
        ("", b'""'),
    ],
)
def test_an_assigned_value_is_json_or_otherwise_a_string(text: str, value: bytes) -> None:
    assert assignment(f"a={text}").apply(b"{}") == b'{"a":%b}' % value


def test_an_assignment_changes_no_bytes_outside_its_path() -> None:
    edited = assignment('a.b[1]["x y"]=3').apply(DOCUMENT)
    assert edited == DOCUMENT.replace(b'"x y":2', b'"x y":3')


@pytest.mark.parametrize(
    ("edit", "left"),
    [("a.b[0]", {"b": [{"x y": 2}]}), ("a.b", {}), ('a.b[1]["x y"]', {"b": [1, {}]})],
)
def test_a_removal_deletes_the_value_at_its_path(edit: str, left: object) -> None:
    assert json.loads(removal(edit).apply(DOCUMENT))["a"] == left


@pytest.mark.parametrize(
    ("edit", "missing"),
    [
        ("a.c.d=1", "a.c"),
        ("a.b[2]=1", "a.b[2]"),
        ("a.b.c=1", "a.b.c"),
        ("n.x=1", "n.x"),
        ("[0]=1", "[0]"),
        ('q["x y"].z=1', "q"),
    ],
)
def test_an_assignment_below_a_missing_value_names_the_missing_path(
    edit: str, missing: str
) -> None:
    with pytest.raises(NoSuchPathError) as caught:
        assignment(edit).apply(DOCUMENT)
    assert str(caught.value) == f"there is no {missing}"


def test_a_removal_of_a_missing_value_raises_an_error() -> None:
    with pytest.raises(NoSuchPathError, match=r"there is no a\.z"):
        removal("a.z").apply(DOCUMENT)


def test_an_edit_of_invalid_json_raises_an_error() -> None:
    with pytest.raises(NoSuchPathError, match="it is not valid JSON"):
        assignment("a=1").apply(b'{"a": nope')
