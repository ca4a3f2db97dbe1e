"""The gateway as clients and Kafka see it: golden examples, keys, caps, CORS, on a real broker."""

import base64
import gzip
import json
import time
import uuid
import zlib
from pathlib import Path
from typing import Any

import brotli
import psutil
import pytest
import zstandard

from tests.support.running import wait_until
from tests.support.running_gateway import (
    KEY,
    SECRET,
    SOURCE,
    HttpAnswer,
    RunningGateway,
    TopicReader,
    declare,
    metrics,
    new_source,
)
from tests.support.signing import SIGN
from weir.adapters import avro
from weir.core.identifiers import dedup_key, payload_hash
from weir.core.registry import Source
from weir.core.resource_paths import SCHEMAS

EXAMPLES = SCHEMAS / "examples"
COMPRESS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}
BOMBS = COMPRESS | {"br": lambda body: brotli.compress(body, quality=2)}
ACCEPTED = avro.schemas()["Accepted"]
REJECTED = avro.schemas()["Rejected"]


def filled(text: str) -> str:
    return text.replace("{source}", SOURCE).replace("{key}", KEY)


def send_example(gateway: RunningGateway, example: dict[str, Any]) -> tuple[bytes, HttpAnswer]:
    body = filled(example.get("body", "")).encode()
    if "body_base64" in example:
        body = base64.b64decode(example["body_base64"])
    given = example.get("headers", {"Content-Type": "application/json"})
    headers = {name: filled(value) for name, value in given.items()}
    compress = COMPRESS.get(headers.get("Content-Encoding", ""))
    sent = compress(body) if compress and not example.get("as_is") else body
    path = filled(example.get("path", "/v1/events"))
    method = example.get("method", "POST")
    key = {} if example.get("without_key") else {"X-Weir-Key": KEY}
    if "sign" in example:  # with the source's secret, now
        headers = headers | SIGN[example["sign"]](method, path, sent, KEY, SECRET)
    return body, gateway.ask(method, path, sent, {**key, **headers})


def examples(kind: str) -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in sorted((EXAMPLES / kind).glob("*.json"))]


def check_reply(answer: HttpAnswer, wanted: Any) -> None:
    """A door's own reply: as wanted, where "*" stands for any text; null: an empty body."""
    if wanted is None:
        assert answer.body == b""
    else:
        assert _masked(answer.json(), wanted) == wanted


def _masked(found: Any, wanted: Any) -> Any:
    if wanted == "*" and isinstance(found, str) and found:
        return "*"
    if isinstance(found, dict) and isinstance(wanted, dict):
        return {name: _masked(value, wanted.get(name)) for name, value in found.items()}
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        return [_masked(one, other) for one, other in zip(found, wanted, strict=True)]
    return found


def find_records(accepted: TopicReader, wanted: list[dict[str, Any]], began: int) -> None:
    """Each of the records that a request is to become is there; JSON fields are given as objects."""

    def read(record: Any) -> dict[str, Any]:
        event = ACCEPTED.decode(record.value)
        return event | {name: json.loads(event[name]) for name in ("properties", "context")}

    for one in wanted:

        def is_it(record: Any, one: dict[str, Any] = one) -> bool:
            if record.timestamp < began:
                return False
            event = read(record)
            return event["source"] == SOURCE and {name: event[name] for name in one} == one

        assert accepted.wait_for(is_it, 1)


@pytest.mark.parametrize("path", examples("valid"))
def test_a_valid_example_gets_its_expected_answer_and_records(
    gateway: RunningGateway, accepted: TopicReader, path: Path
) -> None:
    example = json.loads(path.read_text())
    began = int(time.time() * 1000) - 1
    _, answer = send_example(gateway, example)
    expected = example["expect"]
    assert answer.status == expected["status"], answer.body
    if "reply" in expected:
        check_reply(answer, expected["reply"])
        find_records(accepted, expected["records"], began)
        return
    reply = answer.json()
    assert reply["accepted"] == expected["accepted"] == len(reply["event_ids"])
    rejected = [{k: one[k] for k in ("index", "id", "code", "field")} for one in reply["rejected"]]
    assert rejected == expected["rejected"]
    ids = {uuid.UUID(text).bytes: text for text in reply["event_ids"]}
    written = accepted.wait_for(lambda r: r.value[10:26] in ids, len(ids))
    records = {r.value[10:26]: (r, ACCEPTED.decode(r.value)) for r in written}
    for event_id, wanted in zip(ids, expected.get("records", []), strict=False):
        record, event = records[event_id]
        assert {name: event[name] for name in wanted} == wanted
        assert record.key == dedup_key(SOURCE, event["idempotency_key"])
        assert record.timestamp == event["received_at"]
        assert (event["source"], event["workspace"]) == (SOURCE, "acme")
        assert event["dedup_window_seconds"] == 60


@pytest.mark.parametrize("path", examples("invalid"))
def test_an_invalid_example_gets_its_expected_error_and_is_kept_whole(
    gateway: RunningGateway, rejected: TopicReader, path: Path
) -> None:
    example = json.loads(path.read_text())
    body, answer = send_example(gateway, example)
    expected = example["expect"]
    assert answer.status == expected["status"], answer.body
    if "reply" in expected:
        check_reply(answer, expected["reply"])
        code = expected["code"]
    else:
        code = check_problem(answer, expected)

    body = body.replace(KEY.encode(), b"***")  # keys alone are not kept

    def is_it(record: Any) -> bool:
        found = REJECTED.decode(record.value)
        whole = (
            found["payload"] == body.strip() or found["payload"] in body or body in found["payload"]
        )
        return whole and found["code"] == code and found["source"] == SOURCE

    assert rejected.wait_for(is_it, 1)


def check_problem(answer: HttpAnswer, expected: dict[str, Any]) -> str:
    """A problem document as wanted; the code that the refused is kept with."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status
    assert problem["code"] == expected["code"]
    assert problem["type"] == f"urn:weir:problem:{expected['code']}"
    assert problem["title"]
    assert problem["detail"]
    assert problem.get("field") == expected.get("field")
    rejected = [
        {k: one[k] for k in ("index", "id", "code", "field")} for one in problem.get("rejected", [])
    ]
    assert rejected == expected.get("rejected", [])
    return str(rejected[0]["code"] if rejected else expected["code"])


def test_a_retry_of_the_same_bytes_has_the_same_hash_in_any_batch(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    event = b'{"event":"same", "id":"same-1"}'
    ids = [
        gateway.post(KEY, body).json()["event_ids"][0]
        for body in (event, b"[ " + event + b' ,{"event":"other"}]')
    ]
    assert ids[0] != ids[1]
    wanted = {uuid.UUID(text).bytes for text in ids}
    records = accepted.wait_for(lambda r: r.value[10:26] in wanted, 2)
    assert {ACCEPTED.decode(r.value)["payload_hash"] for r in records} == {payload_hash(event)}
    assert len({r.key for r in records}) == 1


@pytest.mark.parametrize("way", ["Authorization", "X-Weir-Key", "query"])
def test_the_write_key_is_accepted_in_either_header_and_in_the_query(
    gateway: RunningGateway, way: str
) -> None:
    body, path = b'{"event":"a"}', "/v1/events"
    headers = {"Content-Type": "application/json"}
    if way == "query":
        path += f"?x=1&key={KEY}"
    else:
        headers[way] = f"bearer {KEY}" if way == "Authorization" else KEY
    assert gateway.ask("POST", path, body, headers).status == 202


@pytest.mark.parametrize("key", ["", "wrong", "wr\xf6ng"])
def test_events_without_a_known_write_key_are_rejected_with_401(
    gateway: RunningGateway, key: str
) -> None:
    for headers in ({"Authorization": f"Bearer {key}"}, {"X-Weir-Key": key}, {}):
        answer = gateway.ask("POST", "/v1/events", b'{"event":"a"}', headers)
        assert answer.status == 401
        assert answer.json()["code"] == "unauthorized"
    assert 'weir_gateway_problems_total{code="unauthorized"}' in metrics(gateway)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://evil.example"},
        {"Host": "rebound.example"},
    ],
    ids=str,
)
def test_metrics_requests_of_foreign_web_pages_are_rejected_with_403(
    gateway: RunningGateway, headers: dict[str, str]
) -> None:
    answer = gateway.ask("GET", "/metrics", headers=headers)
    assert answer.status == 403
    assert b"weir_" not in answer.body
    assert gateway.ask("GET", "/livez", headers=headers).status == 200  # a proxy may look


def test_every_response_has_the_nosniff_header(gateway: RunningGateway) -> None:
    for method, path in (("GET", "/metrics"), ("POST", "/v1/events"), ("GET", "/nowhere")):
        assert gateway.ask(method, path).headers["X-Content-Type-Options"] == "nosniff"


def test_a_webhook_needs_the_key_of_its_own_source(gateway: RunningGateway) -> None:
    other, _ = new_source(gateway)
    assert gateway.ask("POST", f"/collect/push/{other}?key={KEY}", b"{}").status == 401
    assert gateway.ask("POST", f"/collect/push/{SOURCE}?key={KEY}", b"{}").status == 202


def test_an_open_webhook_needs_no_key(gateway: RunningGateway) -> None:
    source, key = new_source(gateway, open_by_id=True)
    path = f"/collect/push/{source}"
    assert gateway.ask("POST", path, b"{}").status == 202
    assert gateway.ask("POST", f"{path}?key={key}", b"{}").status == 202
    for wrong in ("wrong", KEY):
        assert gateway.ask("POST", f"{path}?key={wrong}", b"{}").status == 401
    assert gateway.ask("POST", f"/collect/push/{SOURCE}", b"{}").status == 401
    assert gateway.ask("POST", "/v1/events", b'{"event":"a"}').status == 401
    closed = Source(id=source, open_by_id=True, enabled=False)
    declare(gateway.kafka.bootstrap(), key, closed)
    wait_until(lambda: gateway.ask("POST", path, b"{}").status == 401, 10, "the change")


def test_a_disabled_source_is_refused(gateway: RunningGateway) -> None:
    source, key = new_source(gateway)
    declare(gateway.kafka.bootstrap(), key, Source(id=source, enabled=False))
    wait_until(lambda: gateway.post(key, b'{"event":"a"}').status == 401, 10, "the change")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_methods_other_than_post_and_options_get_405_with_allow(
    gateway: RunningGateway, method: str
) -> None:
    answer = gateway.ask(method, "/v1/events")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST, OPTIONS")


@pytest.mark.parametrize("path", ["/", "/v1/event", "/collect/a", "/collect/a/b/c"])
def test_unknown_paths_get_404(gateway: RunningGateway, path: str) -> None:
    assert gateway.ask("POST", path, b"{}").status == 404


def test_a_request_with_too_many_events_gets_413(gateway: RunningGateway) -> None:
    event = b'{"event":"a"}'
    assert gateway.post(KEY, b"[" + b",".join([event] * 2_000) + b"]").json()["accepted"] == 2_000
    for body in (b"[" + b",".join([event] * 2_001) + b"]", b"\n".join([event] * 4_001)):
        answer = gateway.post(KEY, body)
        assert (answer.status, answer.json()["code"]) == (413, "too_many_events")


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate", "br", "zstd"])
def test_a_too_large_body_gets_413_in_every_encoding(
    gateway: RunningGateway, encoding: str
) -> None:
    body = b'[{"event":"a"}' + b" " * (2 * 1024 * 1024) + b"]"
    headers = {"Content-Encoding": encoding} if encoding else {}
    sent = COMPRESS[encoding](body) if encoding else body
    answer = gateway.post(KEY, sent, **headers)
    assert (answer.status, answer.json()["code"]) == (413, "body_too_large")


def test_a_too_large_body_of_unknown_length_gets_413(gateway: RunningGateway) -> None:
    parts = (b" " * 65_536 for _ in range(40))
    answer = gateway.ask("POST", "/v1/events", parts, {"X-Weir-Key": KEY})
    assert (answer.status, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_decompression_bomb_gets_413_and_memory_stays_bounded(
    gateway: RunningGateway, encoding: str
) -> None:
    before = psutil.Process(gateway.process.pid).memory_info().rss
    bomb = BOMBS[encoding](bytes(100_000_000))
    assert gateway.post(KEY, bomb, **{"Content-Encoding": encoding}).status == 413
    assert psutil.Process(gateway.process.pid).memory_info().rss - before < 50_000_000


def test_a_too_large_event_is_rejected_and_the_rest_of_its_batch_accepted(
    gateway: RunningGateway,
) -> None:
    large = b'{"event":"a","properties":{"x":"' + b"x" * 102_400 + b'"}}'
    reply = gateway.post(KEY, b'[{"event":"b"},' + large + b"]").json()
    assert reply["accepted"] == 1
    assert [(one["index"], one["code"]) for one in reply["rejected"]] == [(1, "too_large")]


def test_a_shared_context_too_large_for_its_number_of_events_is_rejected(
    gateway: RunningGateway,
) -> None:
    context = b'{"x":"' + b"x" * 90_000 + b'"}'
    events = b",".join([b'{"event":"a"}'] * 1_000)
    body = b'{"events":[' + events + b'],"context":' + context + b"}"
    assert gateway.post(KEY, body).json()["code"] == "context_too_large"


def test_a_rejected_body_of_the_maximum_size_is_kept_whole(
    gateway: RunningGateway, rejected: TopicReader
) -> None:
    body = b"[" + b" " * (2 * 1024 * 1024 - 9) + b'"x' + uuid.uuid4().hex[:4].encode()
    assert gateway.post(KEY, body).status == 400
    assert rejected.wait_for(lambda r: REJECTED.decode(r.value)["payload"] == body, 1)


def test_responses_to_an_allowed_origin_have_cors_headers(gateway: RunningGateway) -> None:
    page = {"Origin": "https://a.example"}
    asked = gateway.ask(
        "OPTIONS", "/v1/events", headers=page | {"Access-Control-Request-Method": "POST"}
    )
    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert "x-weir-key" in asked.headers["Access-Control-Allow-Headers"]
    posted = gateway.post(KEY, b'{"event":"a"}', **page)
    assert (posted.status, posted.headers["Access-Control-Allow-Origin"]) == (202, page["Origin"])
    bad = gateway.post(KEY, b'{"event":""}', **page)
    assert (bad.status, bad.headers["Access-Control-Allow-Origin"]) == (422, page["Origin"])
    unknown = gateway.post("wrong", b'{"event":"a"}', **page)
    assert (unknown.status, unknown.headers["Access-Control-Allow-Origin"]) == (401, page["Origin"])


def test_pages_of_other_origins_are_refused(gateway: RunningGateway) -> None:
    page = {"Origin": "https://evil.example"}
    asked = gateway.ask("OPTIONS", "/v1/events", headers=page)
    assert asked.status == 403
    assert "Access-Control-Allow-Origin" not in asked.headers
    posted = gateway.post(KEY, b'{"event":"a"}', **page)
    assert (posted.status, posted.json()["code"]) == (403, "origin_not_allowed")
