"""What must hold of any answer, and of any record that came of any input."""

import json
import re
from typing import Any, NamedTuple

from weir.adapters import avro
from weir.core import topics
from weir.core.identifiers import PUBLIC_MARK, dedup_key, identity_key
from weir.gateway.app import DOCUMENT
from weir.gateway.http.error_codes import PROBLEMS
from weir.gateway.ingest.event_times import AHEAD_MS, EARLIEST_MS
from weir.gateway.ingest.producer import KafkaRecord
from weir.gateway.ingest.validation import MAX_CHARACTERS, MAX_DEPTH, MAX_EVENT_BYTES
from weir.gateway.routes import ROUTES, Router
from weir.identity.reader import ItemReader
from weir.settings.gateway import GatewaySettings

ACCEPTED = avro.schemas()["Accepted"]
REJECTED = avro.schemas()["Rejected"]
# A request's context may be as large as its body, and stands under the event's own.
MAX_JSON_BYTES = GatewaySettings().gateway_max_body_bytes + MAX_EVENT_BYTES

_head = re.compile(rb"HTTP/1\.1 (\d{3}) [ -~]+\r\n((?:[A-Za-z-]+: [ -~\x80-\xff]*\r\n)*)\r\n").match
_router = Router(ROUTES)


class Answer(NamedTuple):
    """One answer as it came over the wire; `headers` by name in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def read_answers(received: bytes, methods: list[str], continues: bool = False) -> list[Answer]:
    """Everything that was answered, in order; `AssertionError` unless it is well-formed HTTP.

    `methods`: of the requests, as far as known; an answer to HEAD has a length, and no body.
    `continues`: with those that only say to continue.
    """
    answers: list[Answer] = []
    while received:
        head = _head(received)
        assert head, f"not the head of an answer: {received[:200]!r}"
        received = received[head.end() :]
        status = int(head[1])
        if status == 100 and not continues:
            continue
        lines = head[2].decode("latin-1").splitlines()
        headers = {n.lower(): v for n, v in (line.split(": ", 1) for line in lines)}
        method = methods[len(answers)] if len(answers) < len(methods) else ""
        length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        assert len(received) >= length, "the answer is cut short"
        answers.append(Answer(status, headers, received[:length]))
        received = received[length:]
    return answers


def check_answer(answer: Answer) -> None:
    """An answer that any client can make sense of, and no fault of the gateway's own."""
    assert answer.status < 500 or answer.status == 503, f"{answer.status}: {answer.body!r}"
    kind = answer.headers.get("content-type", "")
    if kind.endswith("json") and answer.body:
        document = json.loads(answer.body)
        if kind == "application/problem+json":
            assert PROBLEMS[document["code"]].status == document["status"] == answer.status


def check_documented(method: str, path: str, answer: Answer) -> None:
    """The status stands in the OpenAPI document, at its path and method."""
    found = _router.find(path.partition("?")[0])
    if found is None:
        return
    operations = DOCUMENT["paths"][found.path]
    if method.lower() in operations:
        known = operations[method.lower()]["responses"]
        assert {str(answer.status), "default"} & set(known), (
            f"{method} {found.path}: {answer.status} is not documented"
        )


def check_record(record: KafkaRecord, key_of_sender: str = "") -> None:
    """A record that every reader behind the gateway can read, and ClickHouse can store.

    Of what was refused the sender's key must not be kept; empty: it claimed none.
    """
    topic, key, value = record
    if topic in (topics.PROBE, topics.REGISTRY) or value is None:
        return
    if topic == topics.REJECTED:
        refused = REJECTED.decode(value)
        assert REJECTED.encode(refused) == value
        assert not key_of_sender or key_of_sender.encode() not in refused["payload"], (
            "a key is kept"
        )
        return
    assert topic == topics.ACCEPTED
    event = ACCEPTED.decode(value)
    assert ACCEPTED.encode(event) == value
    assert key == dedup_key(event["source"], event["idempotency_key"])
    ids = [event[f] for f in ("client_profile_id", "user_id", "anonymous_id", "client_session_id")]
    at = event["identity_key"].removeprefix(PUBLIC_MARK)
    assert at == identity_key(*ids)
    for text in (event["event"], event["idempotency_key"]):
        assert 1 <= len(text) <= MAX_CHARACTERS
        assert "\0" not in text
    for text in ids:
        assert len(text) <= MAX_CHARACTERS
        assert "\0" not in text
    assert EARLIEST_MS <= event["occurred_at"] <= event["received_at"] + AHEAD_MS
    for name in ("properties", "context"):
        _check_object(event[name])
    ItemReader().read(b"fuzz\0" + at.encode(), value)


def _check_object(text: str) -> None:
    assert len(text.encode()) <= MAX_JSON_BYTES
    found = json.loads(text, parse_constant=_no_constant, parse_float=_double, parse_int=str)
    assert isinstance(found, dict)
    assert _levels(found) <= MAX_DEPTH
    json.dumps(found, ensure_ascii=False).encode()  # no half of a surrogate pair


def _no_constant(name: str) -> float:
    raise AssertionError(f"{name} was accepted")


def _double(text: str) -> float:
    assert abs(float(text)) != float("inf"), f"{text} was accepted"
    return float(text)


def _levels(value: Any) -> int:
    inner = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    )
    return 0 if inner is None else 1 + max(map(_levels, inner), default=0)
