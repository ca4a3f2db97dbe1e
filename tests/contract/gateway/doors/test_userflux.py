"""UserFlux's API over HTTP on a real broker: CORS, retries and the casing of event names."""

import json
import time
import uuid
from typing import Any

import pytest

from tests.support.running import wait_until
from tests.support.running_gateway import (
    HttpAnswer,
    RunningGateway,
    TopicReader,
    metrics,
    new_source,
)
from weir.adapters import avro

ACCEPTED = avro.schemas()["Accepted"]
BATCH = "/event/ingest/batch"
PAGE = {"Origin": "https://a.example"}


def sent(name: str, **members: Any) -> dict[str, Any]:
    event: dict[str, Any] = {
        "timestamp": int(time.time() * 1000),
        "userId": None,
        "anonymousId": str(uuid.uuid4()),
        "name": name,
        "properties": {},
        "deviceData": None,
    }
    return event | members


def post(
    gateway: RunningGateway, key: str, body: Any, path: str = BATCH, **headers: str
) -> HttpAnswer:
    given = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers}
    return gateway.ask("POST", path, json.dumps(body).encode(), given)


@pytest.mark.parametrize("path", [BATCH, "/event/ingest", "/profile"])
def test_a_page_may_send_with_the_authorization_header(gateway: RunningGateway, path: str) -> None:
    """The CORS preflight allows the header, and the POST that follows is accepted."""
    _, key = new_source(gateway, kind="browser", allowed_origins=(PAGE["Origin"],))
    where = f"{path}?locationEnrichment=true"
    asking = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    asked = gateway.ask("OPTIONS", where, headers=PAGE | asking)
    assert (asked.status, asked.headers["Access-Control-Allow-Origin"]) == (204, PAGE["Origin"])
    assert asked.headers["Access-Control-Allow-Methods"] == "POST"
    allowed = asked.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"authorization", "content-type"} <= set(allowed)
    event = sent("page_view")
    posted = post(gateway, key, {"events": [event]} if path == BATCH else event, where, **PAGE)
    assert (posted.status, posted.headers["Access-Control-Allow-Origin"]) == (202, PAGE["Origin"])
    reply = posted.json()
    assert (reply["accepted"], reply["rejected"]) == (1, [])


def test_a_rate_limited_page_gets_429_with_retry_after_and_no_cors_header(
    gateway: RunningGateway,
) -> None:
    _, key = new_source(gateway, kind="browser", allowed_origins=(PAGE["Origin"],))
    event = sent("click")
    answers: list[HttpAnswer] = []

    def is_limited() -> bool:
        forwarded = {"X-Forwarded-For": "203.0.113.77"}
        answers.append(post(gateway, key, {"events": [event]}, **PAGE, **forwarded))
        return answers[-1].status == 429

    wait_until(is_limited, 10, "the limit")
    assert answers[0].headers["Access-Control-Allow-Origin"] == PAGE["Origin"]
    assert "Access-Control-Allow-Origin" not in answers[-1].headers
    assert int(answers[-1].headers["Retry-After"]) >= 1


def test_an_unknown_write_key_is_unauthorized(gateway: RunningGateway) -> None:
    assert post(gateway, "wrong", {"events": [sent("click")]}).status == 401


def test_a_retry_has_the_same_idempotency_key_and_a_second_click_another(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    source, key = new_source(gateway)
    first = sent("click")
    second = first | {"timestamp": first["timestamp"] + 1}
    assert post(gateway, key, {"events": [first]}).status == 202
    assert post(gateway, key, {"events": [second, first]}).json()["accepted"] == 2
    records = accepted.wait_for(lambda r: ACCEPTED.decode(r.value)["source"] == source, 3)
    written = [ACCEPTED.decode(record.value) for record in records]
    by_time = sorted((event["occurred_at"], event["idempotency_key"]) for event in written)
    assert by_time[0] == by_time[1]
    assert by_time[1][1] != by_time[2][1]
    assert {event["dedup_window_seconds"] for event in written} == {600}
    assert len({event["payload_hash"] for event in written}) == 2


def test_thousands_of_properties_are_kept_as_written(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    source, key = new_source(gateway)
    many = {f"property{n}": [n, {"nested": {"deeper": [True, None]}}] for n in range(1_600)}
    event = sent("import_done", properties=many)
    assert 80_000 < len(json.dumps(event)) <= 102_400
    assert post(gateway, key, {"events": [event]}).json()["accepted"] == 1
    (record,) = accepted.wait_for(lambda r: ACCEPTED.decode(r.value)["source"] == source, 1)
    assert ACCEPTED.decode(record.value)["properties"] == json.dumps(many)


def names_at(gateway: RunningGateway, door: str, key: str, names: list[str]) -> HttpAnswer:
    if door == BATCH:
        return post(gateway, key, {"events": [sent(name) for name in names]})
    return post(gateway, key, [{"event": name} for name in names], door)


@pytest.mark.parametrize("door", [BATCH, "/v1/events"])
def test_an_enforced_casing_rejects_only_the_events_that_violate_it(
    gateway: RunningGateway, door: str
) -> None:
    _, key = new_source(gateway, event_casing="camelCase", enforce_casing=True)
    answer = names_at(gateway, door, key, ["planUpgraded", "plan_upgraded", "parseHTML"])
    assert (answer.status, answer.json()["accepted"]) == (202, 2)
    field = "name" if door == BATCH else "event"
    (refused,) = answer.json()["rejected"]
    assert (refused["index"], refused["code"], refused["field"]) == (1, "wrong_casing", field)
    assert "warnings" not in answer.json()
    alone = names_at(gateway, door, key, ["PlanUpgraded"])
    assert (alone.status, alone.json()["code"]) == (422, "no_valid_event")
    assert alone.json()["rejected"][0]["code"] == "wrong_casing"


@pytest.mark.parametrize("door", [BATCH, "/v1/events"])
def test_a_casing_that_is_not_enforced_warns(gateway: RunningGateway, door: str) -> None:
    _, key = new_source(gateway, event_casing="snake_case")
    before = warned(gateway)
    answer = names_at(gateway, door, key, ["plan_upgraded", "planUpgraded", "plan-upgraded"])
    assert (answer.status, answer.json()["accepted"], answer.json()["rejected"]) == (202, 3, [])
    assert answer.json()["warnings"] == [
        "event 1: 'planUpgraded' is not snake_case, the casing of this source's event names",
        "event 2: 'plan-upgraded' is not snake_case, the casing of this source's event names",
    ]
    assert warned(gateway) == before + 2


def test_automatic_sdk_events_are_exempt_from_an_enforced_casing(gateway: RunningGateway) -> None:
    _, key = new_source(gateway, event_casing="TitleCase", enforce_casing=True)
    captured = ["page_view", "page_leave", "click"]
    assert names_at(gateway, BATCH, key, captured).json()["accepted"] == 3
    profile = {"userId": "ada", "properties": {"plan": "pro"}}
    assert post(gateway, key, profile, "/profile").json()["accepted"] == 1
    assert names_at(gateway, "/v1/events", key, ["page_view"]).status == 422


def warned(gateway: RunningGateway) -> float:
    name = "weir_gateway_warned_events_total "
    return sum(
        float(line.removeprefix(name))
        for line in metrics(gateway).splitlines()
        if line.startswith(name)
    )
