"""The catalogue finds schemas by header: own ones, past ones, and those of newer processes."""

import json
from pathlib import Path

import pytest

from tests.support.events import accepted
from tests.support.next_version import DEFAULT, FIELD, grown
from weir.adapters import avro
from weir.adapters.avro_catalogue import Catalogue, Schema
from weir.core.resource_paths import SCHEMAS


@pytest.fixture
def new(tmp_path: Path) -> Catalogue:
    return Catalogue(grown(tmp_path / "schemas"))


def generation(catalogue: Catalogue, name: str = "Accepted") -> Schema:
    return catalogue.current[name]


def test_every_generation_of_accepted_has_a_matching_generation_of_resolved(new: Catalogue) -> None:
    found = [schema for schema in new.by_header.values() if schema.name == "Accepted"]
    assert len(found) >= 2
    for schema in found:
        resolved = new.resolved(schema)
        assert resolved.fields == [
            *schema.fields,
            "profile_id",
            "session_id",
            "session_gap_seconds",
        ]
        assert resolved.header in new.by_header


def test_the_resolved_schema_file_equals_the_generation_derived_from_accepted() -> None:
    definition = json.loads((SCHEMAS / "resolved.avsc").read_text())
    assert Schema(definition).header == avro.schemas()["Resolved"].header
    assert avro.catalogue.resolved(avro.schemas()["Accepted"]) is avro.schemas()["Resolved"]


def test_past_resolved_schemas_are_derived_without_their_files(tmp_path: Path) -> None:
    folder = grown(tmp_path / "schemas")
    expected = Catalogue(folder).by_header.keys()
    for path in folder.glob("past/resolved_*"):
        path.unlink()
    assert Catalogue(folder).by_header.keys() == expected


def test_every_field_added_since_a_past_schema_has_a_default() -> None:
    for past in avro.schemas_by_header().values():
        for field in avro.schemas()[past.name].definition["fields"]:
            assert field["name"] in past.fields or "default" in field, (past.name, field["name"])


def test_an_unknown_schema_header_is_looked_up_once(new: Catalogue) -> None:
    old, asked = Catalogue(SCHEMAS), 0

    def ask() -> list[Schema]:
        nonlocal asked
        asked += 1
        return list(new.current.values())

    old.ask = ask
    newer = generation(new)
    found = old.find(newer.header)
    assert found is not None
    assert found.fields == newer.fields
    assert old.resolved(found).header == generation(new, "Resolved").header
    assert asked == 1
    nobodys = avro.MARKER + b"8 bytes."
    assert [old.find(nobodys), old.find(nobodys), old.find(b"{}"), old.find(b"")] == [None] * 4
    assert asked == 2


def test_a_failed_schema_lookup_is_retried_at_the_next_read(new: Catalogue) -> None:
    old = Catalogue(SCHEMAS)
    newer = generation(new)

    def fails() -> list[Schema]:
        raise ConnectionError

    old.ask = fails
    with pytest.raises(ConnectionError):
        old.find(newer.header)
    old.ask = lambda: [newer]
    assert old.find(newer.header) is newer


def test_a_prefix_read_of_an_old_record_fills_newer_fields_with_defaults(
    new: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_value = avro.schemas()["Accepted"].encode(accepted(1))
    new_value = generation(new).encode(accepted(1) | {FIELD: "spring"})
    monkeypatch.setattr(avro, "catalogue", new)
    reader = avro.PrefixReader("Accepted", FIELD)
    assert reader.read(new_value)[FIELD] == "spring"
    assert reader.read(old_value) == accepted(1) | {FIELD: DEFAULT}
    assert avro.read_whole(old_value)[FIELD] == DEFAULT


def test_fast_readers_take_only_generations_with_the_same_leading_fields(new: Catalogue) -> None:
    old = Catalogue(SCHEMAS)
    alike, all_of_them = old.headers("Accepted", "wants_receipt"), old.headers("Accepted", "")
    moved = generation(new).definition
    at = [field["name"] for field in moved["fields"]].index("workspace")
    fields = [
        *moved["fields"][:at],
        {"name": "x", "type": "int", "default": 0},
        *moved["fields"][at:],
    ]
    other = Schema({**moved, "fields": fields})
    old.learn([generation(new), other])
    assert {generation(new).header, other.header} <= all_of_them
    assert generation(new).header in alike
    assert other.header not in alike
