"""SuprSend's unmodified SDK works against a real gateway: events, signatures, keys and errors."""

import json
import re
import time
from email.utils import formatdate
from typing import Any

import pytest

from tests.support import signing
from tests.support.official import run_client
from tests.support.running_gateway import (
    KEY,
    SECRET,
    RunningGateway,
    TopicReader,
    metrics,
    new_source,
)
from weir.adapters import avro

ACCEPTED = avro.schemas()["Accepted"]
REJECTED = avro.schemas()["Rejected"]
TRACK, BULK = "/v2/event/", "/v2/bulk/event/"
EVENT = b'{"event": "opened", "distinct_id": "ada"}'
TOO_LARGE = b"[" + b" " * (2 * 1024 * 1024) + b"]"


def send(
    gateway: RunningGateway,
    path: str = TRACK,
    body: bytes = EVENT,
    key: str = KEY,
    secret: str = SECRET,
    **headers: str,
) -> tuple[int, Any]:
    signed = signing.suprsend("POST", path, body, key, secret)
    answer = gateway.ask("POST", path, body, signed | headers)
    assert answer.headers["Content-Type"] == "application/json"
    return answer.status, answer.json()


def error(said: tuple[int, Any]) -> tuple[int, str]:
    status, reply = said
    return status, reply["error"]["message"]


def test_the_sdk_tracks_events_alone_and_in_bulk(
    gateway: RunningGateway, accepted: TopicReader
) -> None:
    source, key = new_source(gateway, signing_secrets=(SECRET,))
    host = f"http://127.0.0.1:{gateway.port}"
    output = json.loads(run_client("suprsend", host, key, SECRET, source))
    for what in ("event", "keyed", "keyed again", "system event", "attachment"):
        assert (output[what]["success"], output[what]["status_code"]) == (True, 202), output[what]
    for what, status, words in (
        ("private attachment", 404, "404 not found: 'http://169.254.169.254/"),
        ("local attachment", 404, "404 not found: send a file as a public URL"),
        ("too large", 413, "at most 102,400"),
        ("wrong secret", 401, "The signature is missing or not valid"),
        ("api key", 401, "The signature is missing or not valid"),
    ):
        assert (output[what]["success"], output[what]["status_code"]) == (False, status), output[
            what
        ]
        assert words in output[what]["message"]
    bulk = output["bulk"]
    assert [bulk[name] for name in ("status", "total", "success", "failure")] == [
        "partial",
        250,
        249,
        1,
    ]
    (failed,) = bulk["failed"]
    assert failed["code"] == 400
    assert failed["error"].startswith("properties.ss_mine ")
    assert output["wrong secret in bulk"][0] == "fail"
    records = accepted.wait_for(lambda r: source.encode() in r.value, 5 + 249)
    events = [ACCEPTED.decode(record.value) for record in records]
    assert len(events) == 5 + 249
    assert {event["door"] for event in events} == {"suprsend"}
    assert all(key not in event["context"] for event in events)
    keyed = [e for e in events if e["idempotency_key"] == f"{source}-1687437670"]
    assert len(keyed) == 2
    assert len({event["payload_hash"] for event in keyed}) == 1
    assert {event["dedup_window_seconds"] for event in events} == {86_400}


def test_the_sdks_api_key_suffices_for_a_source_without_signing_secrets(
    gateway: RunningGateway,
) -> None:
    _, key = new_source(gateway)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    assert gateway.ask("POST", TRACK, EVENT, headers).status == 202


@pytest.mark.parametrize("path", [TRACK, BULK, TRACK[:-1], TRACK + "?a=%20b&c"])
def test_a_signed_request_is_taken(gateway: RunningGateway, path: str) -> None:
    body = b"[%b]" % EVENT if path == BULK else EVENT
    assert send(gateway, path, body)[0] == 202


def test_a_wrong_signature_is_401(gateway: RunningGateway) -> None:
    status, message = error(send(gateway, secret=SECRET + "x"))
    assert (status, message[:37]) == (401, "The signature is missing or not valid")
    status, reply = send(gateway, BULK, b"[%b]" % EVENT, secret=SECRET + "x")
    assert (status, reply["records"]) == (401, [])
    assert 'problems_total{code="wrong_signature"}' in metrics(gateway)


def test_a_signature_date_too_far_from_now_is_401(gateway: RunningGateway) -> None:
    for seconds in (-1_000, 1_000):
        date = formatdate(time.time() + seconds, usegmt=True)
        status, message = error(send(gateway, Date=date))
        assert (status, message[:54]) == (
            401,
            "The signature's time is missing or too far off. `Date`",
        )


@pytest.mark.parametrize("authorization", ["", "nonsense", "wrong-key-0123456789:c2ln", ":c2ln"])
def test_an_unknown_key_is_401(gateway: RunningGateway, authorization: str) -> None:
    status, message = error(send(gateway, Authorization=authorization))
    assert status == 401
    assert "Authorization: <workspace key>:<signature>" in message


def test_a_signed_request_to_a_source_without_secrets_says_what_to_configure(
    gateway: RunningGateway,
) -> None:
    source, key = new_source(gateway)
    status, message = error(send(gateway, key=key))
    assert status == 401
    assert f"Source '{source}' has no signing secret: add the workspace secret to its" in message


def test_a_too_large_signed_body_is_413_and_not_a_signature_error(gateway: RunningGateway) -> None:
    """The answer is 413, not 401, although an unread body's signature cannot be checked."""
    status, message = error(send(gateway, BULK, TOO_LARGE))
    assert (status, message[:21]) == (413, "The body is too large")


def test_a_too_large_body_is_not_kept_for_a_source_with_signing_secrets(
    gateway: RunningGateway,
) -> None:
    """An unread body is unverified; keeping it would let a key alone fill the account."""
    _, key = new_source(gateway, signing_secrets=(SECRET,))
    _, open_key = new_source(gateway)

    def kept() -> int:
        found = re.search(r'refused_events_total\{code="body_too_large"\} (\d+)', metrics(gateway))
        return int(found[1]) if found else 0

    before = kept()
    assert send(gateway, BULK, TOO_LARGE, key, "wrong")[0] == 413
    assert send(gateway, BULK, TOO_LARGE, key)[0] == 413
    assert kept() == before
    assert send(gateway, BULK, TOO_LARGE, open_key)[0] == 413
    assert kept() == before + 1


def test_a_rejected_event_is_kept_with_the_workspace_key_masked(
    gateway: RunningGateway, rejected: TopicReader
) -> None:
    """The SDK writes the workspace key into every event, as `env`."""
    source, key = new_source(gateway, signing_secrets=(SECRET,))
    sent = json.dumps({"event": "$mine", "distinct_id": source, "env": key}).encode()
    assert send(gateway, TRACK, sent, key)[0] == 400
    assert send(gateway, BULK, b"[%b," % sent, key)[0] == 400
    whose = f'"distinct_id": "{source}"'.encode()
    records = rejected.wait_for(lambda record: whose in record.value, 2)
    assert all(key.encode() not in record.value for record in records)
    payloads = {REJECTED.decode(record.value)["payload"] for record in records}
    masked = sent.replace(key.encode(), b"***")
    assert payloads == {masked, b"[%b," % masked}


def test_a_source_over_its_rate_limit_gets_429_with_retry_after(gateway: RunningGateway) -> None:
    _, key = new_source(gateway, signing_secrets=(SECRET,), events_per_second=0.01, events_burst=1)
    assert send(gateway, key=key)[0] == 202
    headers = signing.suprsend("POST", TRACK, EVENT, key, SECRET)
    answer = gateway.ask("POST", TRACK, EVENT, headers)
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert set(answer.json()) == {"error"}
