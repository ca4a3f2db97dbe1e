"""Event status is correct for each fate, also with ClickHouse away or any worker stopped."""

import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import Any

import pytest
import uuid_utils

from tests.support.running import wait_until
from tests.support.running_weir import RunningWeir, stopped
from weir.adapters import avro
from weir.adapters.kafka.clients import write_entries
from weir.core import topics
from weir.core.identifiers import dedup_key
from weir.settings.shared import KafkaSettings

PATIENCE = 60
STAGE_TIMES = ("accepted_at", "deduplicated_at", "resolved_at")
SOURCES = """
sources:
  where:
    workspace: where
    write_keys: [where-write]
    read_keys: [where-read]
    admin_keys: [where-admin]
    open_by_id: true
  elsewhere: {workspace: where, write_keys: [elsewhere-write], read_keys: [elsewhere-read]}
"""


def ask(
    weir: RunningWeir, path: str, key: str, body: Any = None, method: str | None = None
) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    sent = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(weir.gateway + path, sent, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as fault:
        return fault.code, json.load(fault)


def where(weir: RunningWeir, sought: str, key: str = "where-read") -> tuple[int, Any]:
    status, body = ask(weir, f"/v1/events/{urllib.parse.quote(sought, safe='')}", key)
    print(status, json.dumps(body, indent=1))
    return status, body


def found(weir: RunningWeir, sought: str) -> Any:
    status, body = where(weir, sought)
    assert status == 200
    return body


def send(weir: RunningWeir, **event: Any) -> str:
    """The event id."""
    status, reply = ask(weir, "/v1/events", "where-write", {"event": "sought"} | event)
    assert status == 202, reply
    return str(reply["event_ids"][0])


@pytest.fixture(scope="module", autouse=True)
def declared(weir: RunningWeir, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("where") / "sources.yaml"
    file.write_text(SOURCES)
    applied = weir.run("apply", str(file))
    assert applied.returncode == 0, applied.stdout + applied.stderr
    wait_until(lambda: where(weir, "nobody's", "elsewhere-read")[0] == 404, PATIENCE, "the sources")


def tried(weir: RunningWeir, key: str) -> None:
    """Refused: its value is no number."""
    status, _ = ask(
        weir, "/v1/events", "where-write", {"event": "sought", "id": key, "value": "12"}
    )
    assert status == 422


def broken(weir: RunningWeir, key: str) -> str:
    """An accepted event that no worker can read; its id."""
    event_id = uuid_utils.uuid7()
    value = avro.schemas()["Accepted"].header + event_id.bytes + b"\xff\xff"
    settings = KafkaSettings(kafka_port=int(weir.environ["WEIR_KAFKA_PORT"]))
    write_entries(settings, topics.ACCEPTED, [(dedup_key("where", key), value)])
    return str(event_id)


def unsaved(weir: RunningWeir, key: str) -> None:
    payload = {
        "source": {"id": "where"},
        "session": {"id": key},
        "events": [{"type": "sought", "id": key}],
        "options": {"saveEvents": False},
    }
    assert ask(weir, "/track", "", payload)[0] == 200


@pytest.fixture(scope="module")
def fates(weir: RunningWeir, declared: None) -> dict[str, tuple[str, str]]:
    """An event of each fate that is settled: its event id (empty: not told), and the client's own."""
    run = uuid.uuid4().hex[:8]
    stored = send(weir, id=f"stored-{run}", user_id="ada")
    again = send(weir, id=f"stored-{run}", user_id="ada")
    other = send(weir, id=f"stored-{run}", user_id="bob")
    tried(weir, f"rejected-{run}")
    adas = send(weir, user_id="ada", profile_id=f"adas-{run}")
    # only then: dedup may pass two events of different partitions on in either order
    wait_until(lambda: where(weir, adas)[1].get("fate") == "stored", PATIENCE, "ada's profile")
    handed_on = send(weir, id=f"handed-on-{run}", user_id="bob", profile_id=f"adas-{run}")
    dead = broken(weir, f"dead-{run}")
    unsaved(weir, session := str(uuid.uuid4()))
    weir.require_balanced_books()
    return {
        "stored": (stored, f"stored-{run}"),
        "same": (again, ""),
        "other": (other, ""),
        "handed on": (handed_on, f"adas-{run}"),
        "rejected": ("", f"rejected-{run}"),
        "dead": (dead, f"dead-{run}"),
        "unsaved": ("", session),
    }


def check_fates(weir: RunningWeir, fates: dict[str, tuple[str, str]]) -> None:
    """What is told of each, by either id, whatever is away."""
    stored, key = fates["stored"]
    for sought in (stored, key):
        body = found(weir, sought)
        assert (body["fate"], body["event_id"], body["source"]) == ("stored", stored, "where")
        facts = body["facts"]
        assert (facts["event"], facts["user_id"], facts["idempotency_key"]) == (
            "sought",
            "ada",
            key,
        )
        assert facts["profile_id"]
        assert facts["session_id"]
        assert {"occurred_at", "received_at", "resolved_at"} <= body["times"].keys()
        assert list(body["times"].values()) == sorted(body["times"].values())
    for name, same in (("same", True), ("other", False)):
        body = found(weir, fates[name][0])
        assert (body["fate"], body["facts"]["first_event_id"]) == ("duplicate", stored)
        assert body["facts"]["same_payload"] is same
        assert stored in body["advice"]
    handed_on, adas = fates["handed on"]  # decided at bob's own identifier, not at ada's profile
    body = found(weir, handed_on)
    assert body["fate"] == "stored"
    assert body["facts"]["profile_id"] not in ("", adas)
    body = found(weir, fates["rejected"][1])
    assert (body["fate"], body["facts"]["reason"]) == ("rejected", "wrong_type")
    assert body["facts"]["field"] == "value"
    assert found(weir, body["event_id"])["fate"] == "rejected"
    for sought in fates["dead"]:
        body = found(weir, sought)
        assert (body["fate"], body["event_id"]) == ("dead", fates["dead"][0])
        assert (body["facts"]["step"], body["facts"]["reason"]) == ("dedup", "unreadable")
        assert f"weir dead show {body['facts']['letter']}" in body["advice"]
    body = found(weir, fates["unsaved"][1])
    assert (body["fate"], body["source"]) == ("unsaved", "where")
    assert found(weir, body["event_id"])["fate"] == "unsaved"


def test_event_status_returns_the_fate_of_stored_duplicate_rejected_and_dead_events(
    weir: RunningWeir, fates: dict[str, tuple[str, str]]
) -> None:
    check_fates(weir, fates)
    assert "inserted_at" in found(weir, fates["stored"][0])["times"]


def test_event_status_returns_the_same_fates_when_clickhouse_is_away(
    weir: RunningWeir, fates: dict[str, tuple[str, str]]
) -> None:
    with stopped(weir, "warehouse"):
        body = found(weir, fates["stored"][0])
        assert body["fate"] == "stored"
        assert "ClickHouse cannot be queried" in body["notes"][0]
        check_fates(weir, fates)
        status, problem = where(weir, str(uuid_utils.uuid7()))
        assert (status, problem["code"]) == (503, "cannot_tell")
    weir.require_balanced_books()


@pytest.mark.parametrize(
    ("stage", "times"),
    [
        ("dedup", ["accepted_at"]),
        ("identity", ["accepted_at", "deduplicated_at"]),
        ("sink", ["accepted_at", "deduplicated_at", "resolved_at"]),
    ],
)
def test_event_status_of_a_queued_event_names_the_stage_it_waits_for(
    weir: RunningWeir, stage: str, times: list[str]
) -> None:
    key = f"{stage}-{uuid.uuid4()}"
    with stopped(weir, stage):
        sent = send(weir, id=key)
        wait_until(lambda: where(weir, sent)[1].get("stage") == stage, PATIENCE, stage)
        body = found(weir, key)
        assert (body["fate"], body["stage"], body["event_id"]) == ("queued", stage, sent)
        assert [name for name in STAGE_TIMES if name in body["times"]] == times
        assert body["since"] == body["times"][times[-1]]
    wait_until(lambda: found(weir, sent)["fate"] == "stored", PATIENCE, "a row")
    weir.require_balanced_books()


def test_a_read_key_finds_only_events_of_its_own_source(
    weir: RunningWeir, fates: dict[str, tuple[str, str]]
) -> None:
    event_id, key = fates["stored"]
    nobodys = where(weir, str(uuid_utils.uuid7()), "elsewhere-read")
    for sought in (event_id, key, *fates["dead"], fates["rejected"][1], fates["unsaved"][1]):
        status, problem = where(weir, sought, "elsewhere-read")
        assert (status, problem["code"]) == (404, "not_found")
        assert problem | {"id": ""} == nobodys[1] | {"id": ""}
    assert where(weir, event_id, "where-admin")[0] == 200
    assert where(weir, event_id, "where-write")[0] == 403
    assert where(weir, event_id, "nobody's")[0] == 401


def test_the_where_command_returns_the_same_event_status(
    weir: RunningWeir, fates: dict[str, tuple[str, str]]
) -> None:
    event_id, key = fates["stored"]
    result = weir.run("where", key, "--source", "where")
    print(result.stdout, result.stderr)
    assert result.returncode == 0
    assert result.stdout.startswith(f"stored  {key}\n")
    assert event_id in result.stdout
    as_json = json.loads(weir.run("where", event_id, "--json").stdout)
    assert (as_json["fate"], as_json["event_id"]) == ("stored", event_id)
    unknown = weir.run("where", "never-sent")
    assert (unknown.returncode, unknown.stdout.split()[0]) == (1, "unknown")
