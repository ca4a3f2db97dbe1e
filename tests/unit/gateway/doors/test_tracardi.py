"""Tracardi's door reads documented tracker payloads and returns profile and debug data."""

import json
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from tests.support.doors import body_problem_of, parse, problem_of, validated
from tests.support.events import NOON
from weir.adapters import avro
from weir.core.receipts import Receipt, ReceiptProfile, ReceiptSession
from weir.core.receipts import ReceiptOutcome as Decided
from weir.core.registry import Source
from weir.gateway.doors.tracardi.door import DOOR
from weir.gateway.http.error_codes import Problem, Refusal
from weir.gateway.http.request_meta import RequestMeta
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import RecordContext, build_records
from weir.gateway.ingest.parsed_events import (
    BodyLimits,
    Credentials,
    Outcome,
    ParsedEvents,
    Refused,
)
from weir.gateway.ingest.validation import Event, SentEvent

LIMITS = BodyLimits(events=3, body_bytes=2_000)
PAYLOAD: dict[str, Any] = {
    "source": {"id": "shop"},
    "session": {"id": "visit-1"},
    "events": [{"type": "purchase-order", "properties": {"quantity": 1}}, {"type": "page-view"}],
}
FIRST, SECOND = (str(uuid.UUID(int=n)) for n in (1, 2))


def request_meta(query: str = "", **headers: str) -> RequestMeta:
    return RequestMeta("POST", "/track", query, {}, CIMultiDictProxy(CIMultiDict(headers)), "", 0)


def payload(**members: Any) -> bytes:
    return json.dumps(PAYLOAD | members).encode()


def parsed(query: str = "", **members: Any) -> ParsedEvents:
    return DOOR.parse(request_meta(query), payload(**members), LIMITS)


def problem(query: str = "", **members: Any) -> Problem:
    found = body_problem_of(parsed, query, **members)
    # so that it can be kept in the source's account
    assert found.credentials == Credentials("", "shop")
    return found.problem


def sent(found: ParsedEvents) -> list[SentEvent]:
    return [one.event for one in found.events if isinstance(one.event, SentEvent)]


def events(found: ParsedEvents) -> list[Event]:
    return [event for _, event in validated(found, 0) if isinstance(event, Event)]


def replied(found: ParsedEvents, outcome: Outcome, status: int = 200) -> Any:
    answer = DOOR.reply(request_meta(), found, outcome)
    assert answer.status == status
    return json.loads(answer.body)


def receipt(event_id: str, outcome: Decided = "resolved", **members: Any) -> Receipt:
    return Receipt(
        event_id=uuid.UUID(event_id).bytes,
        step="dedup" if outcome == "duplicate" else "identity",
        outcome=outcome,
        received_at=0,
        **members,
    )


def test_credentials_are_the_payloads_source_id_and_the_requests_key() -> None:
    assert parsed().credentials == Credentials("", "shop")
    for keyed in (request_meta("key=k"), request_meta(**{"X-Weir-Key": "k"})):
        found = DOOR.parse(keyed, payload(), LIMITS)
        assert found.credentials == Credentials("k", "shop")


def test_one_payload_may_contain_several_events() -> None:
    found = parsed()
    assert [event.name for event in events(found)] == ["purchase-order", "page-view"]
    assert [event.properties for event in events(found)] == [b'{"quantity": 1}', b"{}"]
    assert bytes(found.events[1].raw) == b'{"type": "page-view"}'


def test_a_payload_without_a_session_id_is_rejected() -> None:
    for session in ({}, {"id": " "}, {"id": None}):
        assert problem(session=session).field == "session.id"
    assert problem(session=None).field == "session"


def test_an_event_without_a_string_type_is_rejected() -> None:
    found = parsed(events=[{"properties": {}}, {"type": 1}, 7])
    refusals = [event for _, event in validated(found, 0)]
    assert [r.code for r in refusals if isinstance(r, Refusal)] == [
        "missing",
        "wrong_type",
        "not_an_object",
    ]


def test_a_profile_id_is_generated_for_all_events_when_none_is_sent() -> None:
    found = parsed()
    assert len({event.profile_id for event in sent(found) + sent(parsed())}) == 2
    for profile in (None, {}, {"id": None}, {"id": " "}):
        found = parsed(profile=profile)
        (minted,) = {event.profile_id for event in sent(found)}
        assert uuid.UUID(minted).version == 4
        assert replied(found, Outcome([FIRST, SECOND], []))["profile"] == {"id": minted}


def test_a_sent_profile_id_is_used_and_returned() -> None:
    found = parsed(profile={"id": " p-1 "})
    assert {event.profile_id for event in events(found)} == {"p-1"}
    assert replied(found, Outcome([FIRST, SECOND], [])) == {
        "profile": {"id": "p-1"},
        "source": {"consent": False},
    }


def test_the_payloads_context_is_merged_under_each_events_context() -> None:
    own = [{"type": "a", "context": {"x": 1}}, {"type": "b"}]
    found = parsed(context={"x": 0, "y": 2}, events=own)
    assert [json.loads(event.context) for event in events(found)] == [
        {"x": 1, "y": 2},
        {"x": 0, "y": 2},
    ]


def test_the_payloads_properties_become_a_member_of_each_events_context() -> None:
    for context, seen in (({}, {"p": 1}), ({"properties": 2}, 2)):
        found = parsed(context=context, properties={"p": 1})
        assert [json.loads(event.context)["properties"] for event in events(found)] == [seen, seen]


def test_context_and_properties_may_have_any_schema() -> None:
    any_schema = {"$set": {"a": [1, {"ss_b": None}]}, "ss_c": "ü"}
    found = parsed(events=[{"type": "a", "properties": any_schema, "context": any_schema}])
    (event,) = events(found)
    assert json.loads(event.properties) == json.loads(event.context) == any_schema
    assert problem(context=[1]).code == "invalid_context"
    assert problem(properties=[1]).field == "properties"


def test_a_shared_context_too_large_for_the_number_of_events_is_rejected() -> None:
    two, one = [{"type": "a"}] * 2, [{"type": "a"}]
    large = {"x": "x" * 9_000}
    assert problem(context=large, events=two).code == "context_too_large"
    assert problem(properties=large, events=two).code == "context_too_large"
    assert parsed(context=large, events=one)


def test_events_are_saved_without_waiting_for_receipts_by_default() -> None:
    for options in ({}, None, {"debugger": False, "profile": False}, {"saveEvents": True}):
        found = parsed(options=options)
        assert (found.saved, found.wants_session, found.wants_receipts) == (True, True, False)


@pytest.mark.parametrize("option", ["debugger", "profile"])
def test_the_debugger_and_profile_options_wait_for_receipts(option: str) -> None:
    assert parsed(options={option: True}).wants_receipts


def test_save_session_false_creates_no_session() -> None:
    found = parsed(options={"saveSession": False})
    assert not found.wants_session
    assert {event.session_id for event in events(found)} == {""}


def test_save_events_false_processes_events_without_storing_them() -> None:
    found = parsed(options={"saveEvents": False})
    assert not found.saved
    assert {event.session_id for event in events(found)} == {"visit-1"}


def test_an_option_that_is_not_a_boolean_is_rejected() -> None:
    assert problem(options={"saveEvents": "false"}).field == "options.saveEvents"
    assert problem(options={"saveSession": 0}).field == "options.saveSession"


@pytest.mark.parametrize(
    ("query", "is_so"),
    [("profile_less=true", True), ("a=b&profile_less=1", True), ("profile_less=False", False)],
)
def test_a_profile_less_event_has_no_profile_but_a_session(query: str, is_so: bool) -> None:
    found = parsed(query, profile={"id": "p-1"})
    assert (found.wants_profile, found.wants_session) == (not is_so, True)
    assert {event.profile_id for event in events(found)} == ({""} if is_so else {"p-1"})
    assert {event.session_id for event in events(found)} == {"visit-1"}
    reply = replied(found, Outcome([FIRST, SECOND], []))
    assert reply["profile"] == {"id": None if is_so else "p-1"}


def test_a_profile_less_value_that_is_not_a_boolean_is_rejected() -> None:
    assert problem("profile_less=perhaps").code == "invalid_query"


def test_a_payload_with_no_events_or_too_many_is_rejected() -> None:
    assert problem(events=[{"type": "a"}] * 4).code == "too_many_events"
    assert problem(events=[]).code == "no_events"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_body"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_body"),
        (b'{"source": "shop"}', "invalid_body"),
        (b'{"x": "\xff"}', "invalid_utf8"),
        (b'{"events":' + b"[" * 100_000, "too_deep"),
    ],
)
def test_an_unreadable_body_or_one_without_required_fields_is_rejected(
    body: bytes, code: str
) -> None:
    assert problem_of(DOOR.parse, request_meta(), body, LIMITS).code == code


def test_half_a_surrogate_pair_rejects_only_its_own_event() -> None:
    body = rb"""{"source": {"id": "shop"}, "session": {"id": "s"}, "events":
        [{"type": "a", "id": "\ud83d"}, {"type": "b", "id": "\ud83d\ude00 \ufffd"}]}"""
    found = DOOR.parse(request_meta(), body, LIMITS)
    cut, whole = (event for _, event in validated(found, 0))
    assert isinstance(cut, Refusal)
    assert isinstance(whole, Event)
    assert (cut.code, whole.idempotency_key) == ("invalid_json", "\U0001f600 \ufffd")
    beside = body.replace(b'"s"', rb'"\ud83d"')
    assert problem_of(DOOR.parse, request_meta(), beside, LIMITS).code == "invalid_json"


@given(st.binary(max_size=60))
def test_any_body_yields_events_or_a_problem(body: bytes) -> None:
    assert isinstance(parse(DOOR, request_meta(), body, LIMITS), Problem | ParsedEvents)


def test_the_reply_lists_rejected_events_and_warnings() -> None:
    found = parsed(events=[{"type": "a b"}, {"type": "page-view"}])
    refused = Refused(0, "", Refusal("invalid_name", "event", "must not contain whitespace"))
    reply = replied(found, Outcome([FIRST], [refused], ["it is odd"]))
    assert [one["code"] for one in reply["rejected"]] == ["invalid_name"]
    assert reply["warnings"] == ["it is odd"]
    assert replied(found, Outcome([], [refused, refused]), 422)["code"] == "no_valid_event"


PROFILE = ReceiptProfile(
    id="p-1",
    traits={"name": msgspec.Raw(b'"Ada"')},
    events=2,
    sessions=1,
    first_seen_at=0,
    last_seen_at=1_500,
    session=ReceiptSession("visit-1", 0, 1_500),
)


def profile_json(**members: Any) -> str:
    return msgspec.json.encode(msgspec.structs.replace(PROFILE, **members)).decode()


def test_the_debugger_reports_saved_events_sessions_and_profiles() -> None:
    found = parsed(profile={"id": "p-1"}, options={"debugger": True})
    common: dict[str, Any] = {"profile_id": "p-1", "session_id": "visit-1"}
    receipts = {
        FIRST: receipt(FIRST, profile_new=True, session_new=True, **common),
        SECOND: receipt(SECOND, **common),
    }
    assert replied(found, Outcome([FIRST, SECOND], [], receipts=receipts)) == {
        "profile": {"id": "p-1"},
        "source": {"consent": False},
        "debugging": {
            "session": {"saved": 1, "errors": [], "ids": ["visit-1"], "types": []},
            "events": {
                "saved": 2,
                "errors": [],
                "ids": [FIRST, SECOND],
                "types": ["purchase-order", "page-view"],
            },
            "profile": {"saved": 1, "errors": [], "ids": ["p-1"], "types": []},
            "execution": {},
            "segmentation": {"errors": [], "ids": []},
            "logs": ["Profile p-1 is new.", "Session visit-1 is new."],
        },
    }


def test_the_debugger_reports_events_without_a_receipt_yet() -> None:
    found = parsed(profile={"id": "p-1"}, options={"debugger": True})
    receipts = {FIRST: receipt(FIRST, profile_id="p-1", session_id="visit-1")}
    debugging = replied(found, Outcome([FIRST, SECOND], [], receipts=receipts))["debugging"]
    text = (
        "1 of 2 events have no result yet: the workers did not report them within 5 s;"
        " they are accepted and will be processed."
    )
    assert debugging["events"] == {
        "saved": 1,
        "errors": [text],
        "ids": [FIRST],
        "types": ["purchase-order"],
    }
    assert debugging["session"]["errors"] == debugging["profile"]["errors"] == [text]
    assert debugging["logs"] == [f"Event {SECOND} has no result yet."]


def test_the_debugger_reports_duplicates_dead_letters_and_rejected_events() -> None:
    found = parsed(
        events=[{"type": "a b"}, {"type": "x"}, {"type": "y"}], options={"debugger": True}
    )
    refused = Refused(0, "", Refusal("invalid_name", "event", "must not contain whitespace"))
    receipts = {
        FIRST: receipt(FIRST, "dead"),
        SECOND: receipt(SECOND, "duplicate", first_event_id=uuid.UUID(FIRST).bytes),
    }
    outcome = Outcome([FIRST, SECOND], [refused], receipts=receipts)
    debugging = replied(found, outcome)["debugging"]
    assert debugging["events"]["saved"] == debugging["profile"]["saved"] == 0
    assert debugging["events"]["errors"] == [
        "Event at 0: event must not contain whitespace.",
        f"Event {FIRST} could not be processed; it is kept as a dead letter.",
    ]
    assert debugging["logs"] == [
        f"Event {SECOND} repeats {FIRST} with another payload; it was not stored again."
    ]


def test_the_debugger_counts_no_unsaved_events_or_sessions_as_saved() -> None:
    options = {"debugger": True, "saveEvents": False, "saveSession": False}
    found = parsed(profile={"id": "p-1"}, options=options)
    receipts = {one: receipt(one, "unsaved", profile_id="p-1") for one in (FIRST, SECOND)}
    debugging = replied(found, Outcome([FIRST, SECOND], [], receipts=receipts))["debugging"]
    assert [debugging[of]["saved"] for of in ("session", "events", "profile")] == [0, 0, 1]
    assert debugging["logs"] == [
        "2 of 2 events were processed and not stored, as requested.",
        "No session was created, as requested.",
    ]


def test_the_debugger_reports_no_profile_for_a_profile_less_event() -> None:
    found = parsed("profile_less=true", events=[{"type": "a"}], options={"debugger": True})
    receipts = {FIRST: receipt(FIRST, session_id="visit-1")}
    debugging = replied(found, Outcome([FIRST], [], receipts=receipts))["debugging"]
    assert debugging["session"]["ids"] == ["visit-1"]
    assert debugging["profile"] == {"saved": 0, "errors": [], "ids": [], "types": []}
    assert debugging["logs"] == ["No profile was created, as requested."]


def test_the_full_profile_comes_from_the_receipt_with_the_most_events() -> None:
    found = parsed(profile={"id": "p-1"}, options={"profile": True})
    receipts = {
        FIRST: receipt(FIRST, profile=profile_json(events=3)),
        SECOND: receipt(SECOND, profile=profile_json()),
    }
    reply = replied(found, Outcome([FIRST, SECOND], [], receipts=receipts))
    assert reply == {
        "profile": {
            "id": "p-1",
            "user_id": None,
            "traits": {"name": "Ada"},
            "events": 3,
            "sessions": 1,
            "first_seen": "1970-01-01T00:00:00.000Z",
            "last_seen": "1970-01-01T00:00:01.500Z",
            "session": {
                "id": "visit-1",
                "started_at": "1970-01-01T00:00:00.000Z",
                "ended_at": "1970-01-01T00:00:01.500Z",
            },
        },
        "source": {"consent": False},
    }


@pytest.mark.parametrize(
    ("receipts", "why"),
    [
        ({}, "1 of 1 events have no result yet"),
        ({FIRST: receipt(FIRST, "duplicate")}, "its events are duplicate"),
    ],
)
def test_the_reply_has_only_the_profile_id_and_a_warning_without_a_profile_receipt(
    receipts: dict[str, Receipt], why: str
) -> None:
    found = parsed(profile={"id": "p-1"}, events=[{"type": "a"}], options={"profile": True})
    reply = replied(found, Outcome([FIRST], [], receipts=receipts))
    assert reply["profile"] == {"id": "p-1"}
    assert why in reply["warnings"][0]


@pytest.mark.parametrize(
    ("profile_id", "source", "is_replaced"),
    [
        ("undefined", Source(id="s"), True),
        ("guest", Source(id="s", block_default_ids=False), False),
        ("walk-in", Source(id="s", blocked_ids=("walk-in",)), True),
        ("p-17", Source(id="s"), False),
    ],
)
def test_a_placeholder_profile_id_by_the_sources_list_is_replaced_in_the_event_and_the_answer(
    profile_id: str, source: Source, is_replaced: bool
) -> None:
    body = {"source": {"id": "s"}, "session": {"id": "x"}, "profile": {"id": profile_id}}
    raw = msgspec.json.encode(body | {"events": [{"type": "a"}, {"type": "b"}]})
    found = DOOR.parse(request_meta(), raw, BodyLimits(100, 1_000_000))
    context = RecordContext(SourceFields.of(source), NOON, Client("tracardi", "", ""))
    made = build_records(found, source, context)
    records = [avro.decode_any(value or b"")[1] for _, _, value in made.records]
    (stored,) = {record["client_profile_id"] for record in records}
    answer = DOOR.reply(request_meta(), found, made.outcome())
    assert msgspec.json.decode(answer.body)["profile"]["id"] == stored
    if is_replaced:
        assert uuid.UUID(stored).version == 4
        assert made.ignored_ids == ["profile_id", "profile_id"]
        assert len(made.warnings) == 2
        kept = msgspec.json.decode(records[0]["context"])["ignored_ids"]
        assert kept == {"profile_id": profile_id}
    else:
        assert stored == profile_id
        assert not made.ignored_ids
