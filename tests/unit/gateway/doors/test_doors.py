"""Doors split bodies of every shape into events and report the result of each event."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.doors import attempt, validated
from weir.core.registry import Source
from weir.core.resource_paths import ROOT, SCHEMAS
from weir.gateway.doors.answers import reply
from weir.gateway.doors.events.door import client_id, parsed
from weir.gateway.doors.webhook import door as webhook
from weir.gateway.doors.webhook.door import event_of
from weir.gateway.http.error_codes import KEPT, PROBLEMS, Problem, Refusal
from weir.gateway.ingest.accepted_writer import Client, SourceFields
from weir.gateway.ingest.build_records import RecordContext, build_records
from weir.gateway.ingest.event_name_case import is_cased
from weir.gateway.ingest.parsed_events import Outcome, ParsedEvent, ParsedEvents, Refused
from weir.gateway.ingest.split_body import json_in
from weir.gateway.ingest.split_events import SplitEvents, split_events
from weir.gateway.ingest.validation import Policy, SentEvent, Shared
from weir.gateway.routes import DOORS, ROUTES, Router

EVENT = b'{"event":"a"}'


def split(body: bytes, is_ndjson: bool = False) -> list[bytes] | str:
    found = attempt(split_events, body, is_ndjson, 3)
    return found.code if isinstance(found, Problem) else [bytes(one) for one in found.events]


@pytest.mark.parametrize(
    "body",
    [
        EVENT,
        b" \n" + EVENT + b"\r\n",
        b"[" + EVENT + b"]",
        b"[ " + EVENT + b" ]",
        b'{"events":[' + EVENT + b"]}",
        b'{"context":null, "events" : [ ' + EVENT + b" ]}",
        EVENT + b"\n\n",
    ],
)
def test_an_event_has_the_same_bytes_in_any_shape(body: bytes) -> None:
    assert split(body) == [EVENT]


def test_pretty_printed_json_is_not_ndjson() -> None:
    pretty = b'{\n "event": "a"\n}'
    assert split(pretty) == [pretty]
    assert split(pretty[:-2]) == "invalid_json"


def test_a_body_nested_too_deep_is_rejected_even_with_half_a_surrogate_pair() -> None:
    deep = b'{"event":"a","properties":' + b'{"x":"\\ud80a","p":' * 2_000 + b"1" + b"}" * 2_001
    assert split(deep) == "too_deep"


def test_ndjson_is_recognised_by_its_lines_or_its_content_type() -> None:
    assert split(EVENT + b"\n" + EVENT) == [EVENT, EVENT]
    assert split(b'{"event":\n' + EVENT, is_ndjson=True) == [b'{"event":', EVENT]
    assert split(b"x\ny", is_ndjson=True) == [b"x", b"y"]
    assert split(EVENT * 2) == "invalid_json"


@pytest.mark.parametrize("count", [3, 4])
def test_the_event_cap_is_the_same_for_array_ndjson_and_envelope(count: int) -> None:
    expected = [EVENT] * 3 if count == 3 else "too_many_events"
    assert split(b"[" + b",".join([EVENT] * count) + b"]") == expected
    assert split(b"\n".join([EVENT] * count)) == expected
    assert split(b'{"events":[' + b",".join([EVENT] * count) + b"]}") == expected


@given(st.binary(max_size=100), st.booleans())
def test_splitting_any_body_yields_events_or_a_problem(body: bytes, is_ndjson: bool) -> None:
    assert isinstance(attempt(split_events, body, is_ndjson, 3), SplitEvents | Problem)
    assert isinstance(attempt(json_in, body), bytes | Problem)


def test_the_reply_is_json_with_accepted_rejected_event_ids_and_warnings() -> None:
    refused = [Refused(1, 'k"1', Refusal("wrong_type", "value", "must be a finite number"))]
    assert json.loads(reply(Outcome(["x", "y"], refused, ["odd"]))) == {
        "accepted": 2,
        "rejected": [
            {
                "index": 1,
                "id": 'k"1',
                "code": "wrong_type",
                "field": "value",
                "message": "value must be a finite number",
            }
        ],
        "event_ids": ["x", "y"],
        "warnings": ["odd"],
    }
    assert json.loads(reply(Outcome([], []))) == {"accepted": 0, "rejected": [], "event_ids": []}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"id":"a","idempotency_key":"b"}', "b"),
        (b'{"id":"a"}', "a"),
        (b'{"id":5}', "5"),
        (b'{"id":null}', ""),
        (b"[1]", ""),
        (b"{", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_a_rejected_event_is_identified_by_its_idempotency_key_or_id(
    raw: bytes, expected: str
) -> None:
    assert client_id(raw) == expected


def test_a_webhook_event_keeps_its_body_bytes_and_reserved_property_names() -> None:
    body = b'{"$x": 1.0,  "nested": {"a": []}}'
    sent = event_of("push", body, "key")
    events = ParsedEvents([ParsedEvent(body, sent)], Shared(b"", body), Policy(own_names=None))
    ((raw, event),) = validated(events, 0)
    assert not isinstance(event, Refusal)
    assert (raw, event.properties, event.idempotency_key) == (body, body, "key")
    assert event.user_id == ""


def test_reserved_names_are_rejected_except_the_doors_own_names() -> None:
    own = frozenset({"$its_event", "$its_property"})
    for name, place, code in (
        ("$its_event", b'{"$its_property":1}', None),
        ("$another", b"{}", "reserved_name"),
        ("plain", b'{"ss_x":1}', "reserved_name"),
    ):
        event = ParsedEvent(place, SentEvent(name, properties=msgspec.Raw(place)))
        events = ParsedEvents([event], Shared(b"", place), Policy(own_names=own))
        ((_, found),) = validated(events, 0)
        assert (found.code if isinstance(found, Refusal) else None) == code


@pytest.mark.parametrize(
    ("casing", "good", "bad"),
    [
        ("TitleCase", ["Signup", "PlanUpgraded", "Top10"], ["signup", "Plan_Upgraded", "planUp"]),
        ("camelCase", ["signup", "planUpgraded"], ["Signup", "plan_upgraded"]),
        ("snake_case", ["signup", "plan_upgraded", "top_10"], ["planUpgraded", "plan-x", "a__b"]),
        ("kebab-case", ["signup", "plan-upgraded"], ["plan_upgraded", "Plan-x", "a-"]),
    ],
)
def test_is_cased_recognises_each_casing(casing: Any, good: list[str], bad: list[str]) -> None:
    assert [name for name in [*good, *bad] if is_cased(name, casing)] == good
    assert is_cased("$identify", casing)


@pytest.mark.parametrize("enforce", [False, True])
def test_a_wrongly_cased_event_name_is_rejected_if_enforced_and_else_warned_about(
    enforce: bool,
) -> None:
    source = Source(id="s", event_casing="snake_case", enforce_casing=enforce)
    events = parsed(split_events(b'[{"event":"a_b"},{"event":"aB"}]', False, 9))
    records = build_records(
        events, source, RecordContext(SourceFields.of(source), 0, Client("events", "", ""))
    )
    text = "'aB' is not snake_case, the casing of this source's event names"
    if enforce:
        assert [(r.index, r.refusal.code, r.refusal.text) for r in records.refused] == [
            (1, "wrong_casing", text)
        ]
        assert (len(records.event_ids), records.warnings) == (1, [])
    else:
        assert (len(records.event_ids), records.refused) == (2, [])
        assert records.warnings == [f"event 1: {text}"]


def test_the_router_finds_a_route_and_decodes_its_path_parts() -> None:
    router = Router(ROUTES)
    found = router.find("/collect/a%20b/shop/")
    assert found is not None
    assert found.parts == {"event_type": "a b", "source_id": "shop"}
    assert found.methods["POST"] is webhook.DOOR
    assert router.find("/collect/a") is None
    assert router.find("/") is None
    assert router.find("/v1/events" + 3_000 * "/") is None


def test_every_kept_problem_is_defined_and_every_status_is_an_error() -> None:
    assert set(PROBLEMS) >= KEPT
    assert {kind.status for kind in PROBLEMS.values()} <= set(range(400, 504))


@pytest.mark.parametrize("door", sorted(set(DOORS) - {"events", "collect"}))
def test_every_door_has_examples_and_is_documented(door: str) -> None:
    router = Router(ROUTES)

    def is_of(path: Path) -> bool:
        example = json.loads(path.read_text())
        where = example.get("path", "/v1/events").replace("{source}", "s").partition("?")[0]
        found = router.find(where)
        at = found and found.methods.get(example.get("method", "POST"))
        return at is not None and at.name == door

    for kind in ("valid", "invalid"):
        assert any(map(is_of, (SCHEMAS / "examples" / kind).glob("*.json"))), kind
    headings = re.findall(r"^## (.*)$", (ROOT / "docs" / "doors-reference.md").read_text(), re.M)
    assert door in [heading.lower() for heading in headings]
    products = re.findall(
        r"^\| ([A-Za-z]+)", (ROOT / "docs" / "sending-events.md").read_text(), re.M
    )
    assert door in [product.lower() for product in products]
