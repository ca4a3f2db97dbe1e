"""Avro records: schema headers, prefix reads, the order of fields, and the source of any record."""

import io

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import records as rows
from tests.support.events import accepted
from weir.adapters import avro
from weir.core.resource_paths import SCHEMAS


def test_a_record_starts_with_the_header_of_its_schema() -> None:
    value = avro.schemas()["Accepted"].encode(accepted(1))
    assert avro.decode_any(value) == ("Accepted", accepted(1))
    with pytest.raises(avro.UnknownSchemaError):
        avro.decode_any(b"{}")


def test_a_prefix_reads_the_leading_fields_of_shorter_and_longer_records() -> None:
    longer = {**accepted(1), "profile_id": "p", "session_id": "s"}
    reader = avro.PrefixReader("Resolved", "source")
    read = reader.read(avro.schemas()["Resolved"].encode(longer))
    assert list(read) == ["event_id", "payload_hash", "received_at", "source"]


@pytest.mark.parametrize("size", [0, 9, 10, 11, 30, 60])
def test_reading_a_truncated_record_raises_an_error(size: int) -> None:
    value = avro.schemas()["Accepted"].encode(accepted(1))[:size]
    reader = avro.PrefixReader("Accepted", "idempotency_key")
    with pytest.raises((avro.UnreadableError, avro.UnknownSchemaError)):
        reader.read(value)


@given(st.binary(max_size=300) | st.integers(0, 20_000).map(bytes))
def test_string_length_plus_bytes_equals_avros_encoding(text: bytes) -> None:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, "bytes", text)
    assert avro.string_length(text) + text == buffer.getvalue()


def test_the_resolved_schema_begins_with_the_fields_of_accepted() -> None:
    accepted_fields = avro.schemas()["Accepted"].definition["fields"]
    assert (
        avro.schemas()["Resolved"].definition["fields"][: len(accepted_fields)] == accepted_fields
    )


@pytest.mark.parametrize(
    "value",
    [
        rows.encode("Accepted", **accepted()),
        rows.resolved(1),
        rows.duplicate(),
        rows.rejected(),
        rows.dead_letter(source="shop"),
        rows.usage("accepted", 1, 1),
        rows.recovery(),
    ],
    ids=lambda value: avro.schema_of(value).name,
)
def test_source_of_reads_the_source_even_with_extra_trailing_bytes(value: bytes) -> None:
    assert avro.source_of(value) == "shop"
    assert avro.source_of(value + b"of a longer schema") == "shop"


@pytest.mark.parametrize(
    "value",
    [b"", b"garbage", rows.encode("Accepted", **accepted())[:20], rows.dead_letter()],
    ids=["none", "not ours", "cut short", "nobody's"],
)
def test_source_of_is_empty_for_a_record_without_a_readable_source(value: bytes) -> None:
    assert avro.source_of(value) == ""


def test_source_of_is_empty_for_a_record_type_this_version_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    later = avro.Schema(
        {"type": "record", "name": "Later", "fields": [{"name": "source", "type": "string"}]}
    )
    catalogue = avro.Catalogue(SCHEMAS)
    catalogue.learn([later])
    monkeypatch.setattr(avro, "catalogue", catalogue)
    assert avro.source_of(later.encode({"source": "shop"})) == ""


@pytest.mark.parametrize("schema", avro.schemas().values(), ids=lambda schema: schema.name)
def test_an_ordinary_value_of_every_schema_can_be_read(schema: avro.Schema) -> None:
    assert schema.decode(avro.ordinary(schema)).keys() == set(schema.fields)
