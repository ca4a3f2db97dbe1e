"""Placeholder ids such as "null" identify nobody and are kept in the context."""

from typing import Any

import msgspec
import pytest

from tests.unit.gateway.http.test_signing import request
from weir.adapters import avro
from weir.core.blocked_ids import BLOCKED, DEFAULT, BlockedIds
from weir.core.registry import IdMapping, Source
from weir.gateway.doors.events import door as events
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import RecordContext, RequestRecords, build_records
from weir.gateway.ingest.parsed_events import BodyLimits
from weir.identity.id_mapping import named_by


def records_of(body: bytes, source: Source) -> RequestRecords:
    parsed = events.DOOR.parse(request(), body, BodyLimits(100, 1_000_000))
    return build_records(
        parsed, source, RecordContext(SourceFields.of(source), 0, Client("events", "", ""))
    )


def record_of(event: dict[str, Any], source: Source | None = None) -> avro.AvroRecord:
    records = records_of(msgspec.json.encode(event), source or Source(id="shop"))
    return avro.decode_any(records.records[0][2] or b"")[1]


@pytest.mark.parametrize(
    "text",
    [
        *("undefined", "null", "NaN", "nil", "None", "0", "-1", "[object Object]", "false", "TRUE"),
        *("00000000-0000-0000-0000-000000000000", "0000", "--", '"undefined"', "'null'", " null "),
        *("Anonymous", "guest", "unknown", "(not set)", "distinct_id", "email"),
        *(
            "[object Window]",
            "[object Undefined]",
            "{{user.id}}",
            "${userId}",
            "%user_id%",
            "<null>",
        ),
        *("0.0", "Infinity", "-Infinity", "#N/A", "undefined undefined", "null,null"),
        *("\u200b", "\ufeff", "\u2060", "\u00ad", "undefined\u200b", "null\u00a0"),
    ],
)
@pytest.mark.parametrize("field", ["user_id", "anonymous_id", "profile_id", "session_id"])
def test_a_placeholder_id_is_ignored_and_kept_in_the_context(field: str, text: str) -> None:
    record = record_of({"event": "view", field: text, "context": {"page": "/"}})
    stored = {"profile_id": "client_profile_id", "session_id": "client_session_id"}.get(
        field, field
    )
    assert record[stored] == record["identity_key"] == ""
    context = msgspec.json.decode(record["context"])
    assert context == {"page": "/", "ignored_ids": {field: text.strip()}}


def test_other_ids_of_an_event_with_a_placeholder_id_are_kept() -> None:
    record = record_of({"event": "$identify", "anonymous_id": "dev1", "user_id": "undefined"})
    assert (record["user_id"], record["identity_key"]) == ("", "a:dev1")
    assert record_of({"event": "view", "user_id": 0})["user_id"] == ""


@pytest.mark.parametrize(
    "text", ["1", "-2", "10", "ada", "nullable", "undefined-1", "0a", "a" * 255, "null@example.com"]
)
def test_a_real_id_that_resembles_a_placeholder_is_kept(text: str) -> None:
    record = record_of({"event": "view", "user_id": text})
    assert (record["user_id"], record["context"]) == (text, "{}")


def test_ignored_ids_produce_a_warning_and_are_reported_for_the_metric() -> None:
    body = (
        b'[{"event": "a", "user_id": "ada"}, {"event": "a", "user_id": "NaN", "session_id": "0"}]'
    )
    records = records_of(body, Source(id="shop"))
    assert records.warnings == [
        "event 1: user_id 'NaN' is not an id; the event is accepted without it",
        "event 1: session_id '0' is not an id; the event is accepted without it",
    ]
    assert records.ignored_ids == ["user_id", "session_id"]
    assert len(records.event_ids) == 2


def test_a_source_may_add_blocked_ids_and_disable_the_default_list() -> None:
    more = Source(id="shop", blocked_ids=("Walk-In",))
    assert record_of({"event": "a", "user_id": "walk-in"}, more)["user_id"] == ""
    assert record_of({"event": "a", "user_id": "null"}, more)["user_id"] == ""
    off = Source(id="shop", blocked_ids=("walk-in",), block_default_ids=False)
    assert record_of({"event": "a", "user_id": "walk-in"}, off)["user_id"] == ""
    assert record_of({"event": "a", "user_id": "0"}, off)["user_id"] == "0"


@pytest.mark.parametrize(
    "text",
    ["user-17", "42", "00x", "1.0", "John Doe", "null island", "--x", "a/b", "José", "guest-1"],
)
def test_ordinary_ids_are_kept(text: str) -> None:
    assert not DEFAULT.has(text)


def test_default_blocked_ids_are_trimmed_lowercase_and_found() -> None:
    assert all(DEFAULT.has(text) and text == text.strip().lower() for text in BLOCKED)


def test_id_mappings_ignore_placeholder_ids() -> None:
    mapping = IdMapping(event="*", user_id="customer", anonymous_id="device")
    assert named_by(mapping, '{"customer": "undefined", "device": 0}') is None
    named = named_by(mapping, '{"customer": "null", "device": "phone"}')
    assert named is not None
    assert (named.user_id, named.anonymous_id) == ("", "phone")
    assert named_by(mapping, '{"customer": "phone"}', BlockedIds.of(["Phone"], True)) is None
