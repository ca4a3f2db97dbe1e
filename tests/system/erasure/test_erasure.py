"""An erasure removes a person from all tables and in-flight events, even if the eraser is killed."""

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uuid_utils

from tests.support.events import accepted
from tests.support.profiles import size
from tests.support.running import wait_until
from tests.support.running_weir import RunningWeir, start_weir, stopped
from weir.adapters import avro
from weir.adapters.kafka.clients import write_entries
from weir.core import topics
from weir.core.identifiers import dedup_key
from weir.settings.shared import KafkaSettings

PATIENCE = 120
SHARE = size(100, 25)  # a hundredth of the person's events: 10,000 at night
SOURCES = """
sources:
  web: {workspace: people, write_keys: [web-write], admin_keys: [web-admin], read_keys: [web-read]}
  backend: {workspace: people, write_keys: [backend-write]}
  elsewhere: {workspace: elsewhere, write_keys: [elsewhere-write], admin_keys: [elsewhere-admin]}
"""
OTHERS = [f"other-{number}-of-many" for number in range(20)]
Event = dict[str, Any]


@pytest.fixture(scope="module")
def weir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWeir]:
    """One of its own: what is erased is missing in books that others look at."""
    folder = tmp_path_factory.mktemp("erasure")
    sources = folder / "sources.yaml"
    sources.write_text(SOURCES)
    running = start_weir(folder, WEIR_SOURCES_FILE=str(sources), WEIR_ERASURE_KEY="a secret")
    try:
        yield running
    finally:
        assert running.stop() == 0, running.process.said()


def ask(
    weir: RunningWeir, path: str, key: str, body: Any = None, method: str | None = None
) -> tuple[int, Any]:
    sent = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(weir.gateway + path, sent, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as fault:
        return fault.code, json.load(fault)


def send(weir: RunningWeir, events: list[Event], source: str = "web") -> None:
    for start in range(0, len(events), 500):
        status, reply = ask(weir, "/v1/events", f"{source}-write", events[start : start + 500])
        assert (status, reply["rejected"]) == (202, []), reply


def views(user: str, number: int, prefix: str, **more: Any) -> list[Event]:
    return [
        {"event": "view", "id": f"{prefix}-{n}", "user_id": user, "properties": {"n": n}} | more
        for n in range(number)
    ]


def wait_until_settled(weir: RunningWeir, accepted: int) -> None:
    """Everything that was accepted has an end."""

    def ended() -> bool:
        counted: dict[str, int] = dict(
            weir.ask("SELECT outcome, sum(events) FROM weir.usage GROUP BY outcome")
        )
        rows = weir.ask(
            "SELECT (SELECT count() FROM weir.events) + (SELECT count() FROM weir.duplicates)"
        )
        gone = weir.ask(
            "SELECT sum(rows) FROM weir.erased_rows FINAL WHERE place IN ('events', 'duplicates')"
        )
        settled = rows[0][0] + gone[0][0] + counted.get("erased", 0) + counted.get("dead", 0)
        return counted.get("accepted", 0) == accepted == int(settled)

    wait_until(ended, PATIENCE, f"{accepted:,} events")


def count(weir: RunningWeir, sql: str) -> int:
    return int(weir.ask(sql)[0][0])


def visits(weir: RunningWeir, users: list[str]) -> list[tuple[Any, ...]]:
    listed = ", ".join(f"'{user}'" for user in users)
    return weir.ask(
        "SELECT session_id, profile_id, started_at, ended_at, events, entry_event, exit_event"
        f" FROM weir.sessions WHERE hasAny(user_ids, [{listed}]) ORDER BY session_id"
    )


@contextmanager
def flowing(weir: RunningWeir, users: list[str]) -> Iterator[Counter[str]]:
    """Events of these users come all the while; how many of each is known at the end."""
    sent: Counter[str] = Counter()
    done = threading.Event()

    def flow() -> None:
        while not done.wait(0.5):
            events = [
                e for user in users for e in views(user, 5, f"{user}-{uuid.uuid4()}", value=1)
            ]
            send(weir, events)
            sent.update(event["user_id"] for event in events)

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        yield sent
    finally:
        done.set()
        thread.join()


@contextmanager
def audited(weir: RunningWeir) -> Iterator[list[str]]:
    """The books are read all the while; what was found wrong is known at the end."""
    findings: list[str] = []
    done = threading.Event()

    def audit() -> None:
        while not done.wait(3):
            result = weir.run("audit")
            if result.returncode:
                findings.append(result.stdout + result.stderr)

    thread = threading.Thread(target=audit)
    thread.start()
    try:
        yield findings
    finally:
        done.set()
        thread.join()


def dead(weir: RunningWeir, user: str) -> None:
    """An accepted event that is cut short behind the user's id: identity gives it up."""
    now = int(time.time() * 1_000)
    event = accepted(0, source="web", workspace="people", user_id=user, received_at=now)
    event |= {"event_id": uuid_utils.uuid7().bytes, "idempotency_key": f"dead-{user}"}
    whole = avro.schemas()["Accepted"].encode(event)
    value = whole[: whole.rindex(user.encode()) + len(user)]
    kafka = KafkaSettings(kafka_port=int(weir.environ["WEIR_KAFKA_PORT"]))
    write_entries(kafka, topics.ACCEPTED, [(dedup_key("web", f"dead-{user}"), value)])


def test_erasing_a_person_with_many_events_changes_no_other_person(
    weir: RunningWeir,
) -> None:
    user, device, profile = (f"{kind}-{uuid.uuid4().hex}" for kind in ("ada", "device", "profile"))
    quiet, busy = OTHERS[:10], OTHERS[10:]
    anonymous = views("", 20 * SHARE, "anonymous", anonymous_id=device)
    for event in anonymous:
        del event["user_id"]
    send(weir, anonymous)
    send(weir, views(user, 30 * SHARE, "login", anonymous_id=device))
    send(weir, views(user, 20 * SHARE, "server"), "backend")
    send(weir, views(user, 10 * SHARE - 1, "named", profile_id=profile))
    traits = {"event": "$identify", "user_id": user, "properties": {"email": f"{user}@b.example"}}
    send(weir, [traits])
    send(weir, views(user, 5 * SHARE, "login", anonymous_id=device))  # repeats
    for other in quiet:
        send(weir, views(other, 100, other))
    send(weir, views(quiet[0], 50, "shared", anonymous_id=device))  # on the person's device
    send(weir, views(quiet[1], 50, "asserted", profile_id=profile))  # and under their profile
    for n in range(20):
        refused = {"event": "view", "user_id": user, "value": "twelve", "id": f"refused-{n}"}
        assert ask(weir, "/v1/events", "web-write", refused)[0] == 422
    dead(weir, user)
    wait_until_settled(weir, 85 * SHARE + 1_000 + 100 + 1)
    wait_until(
        lambda: count(weir, "SELECT count() FROM weir.rejected FINAL") == 20, PATIENCE, "refusals"
    )
    weir.require_balanced_books()  # visits and letters follow what they are of
    before = visits(weir, quiet[2:])
    assert count(weir, "SELECT count() FROM weir.conflicts") > 0
    profiles = [row[0] for row in weir.ask(
        f"SELECT DISTINCT profile_id FROM weir.events_current WHERE user_id = '{user}'")]  # fmt: skip
    minted = [weir.minted("people", name) for name in (f"u:{user}", f"a:{device}")]
    sought = sorted({user, device, profile, *minted, *profiles})
    found = weir.run("scan", *sought, "--json")
    traces = {place: rows for place, rows in json.loads(found.stdout).items() if rows}
    print(json.dumps(traces, indent=1))
    assert found.returncode == 1
    assert {f"table weir.{t}" for t in ("events", "dead", "rejected", "conflicts")} <= set(traces)
    assert "topic profiles" in traces
    assert any(place.startswith("state weir-identity") for place in traces)

    with flowing(weir, busy) as sent:
        with stopped(weir, "identity"):  # a fifth is in flight when it begins
            send(weir, views(user, 20 * SHARE, "in-flight", anonymous_id=device))
            asked = weir.run("erase", "--user", user, "--source", "backend", "--yes", "--no-wait")
            assert asked.returncode == 0, asked.stderr
            erasure_id = asked.stdout.strip()
        with audited(weir) as findings:
            erased = weir.run("erase", "--resume", erasure_id, "--json")
        assert erased.returncode == 0, erased.stdout + erased.stderr
        assert not findings, findings[0]
    print(weir.run("erase", "--resume", erasure_id).stdout)
    erasure = json.loads(erased.stdout)
    rows = {place["place"]: place["rows"] for place in erasure["places"]}
    assert (erasure["state"], erasure["subject"], erasure["names"]) == ("finished", "", [])
    assert rows["table events"] == 100 * SHARE
    assert (rows["table duplicates"], rows["table rejected"], rows["table dead"]) == (
        5 * SHARE,
        20,
        1,
    )
    assert rows["state identity"] >= 3

    wait_until_settled(weir, 105 * SHARE + 1_000 + 100 + 1 + sent.total())
    scanned = weir.run("scan", *sought)
    print(scanned.stdout)
    assert scanned.returncode == 0, scanned.stdout
    users: dict[str, int] = dict(
        weir.ask("SELECT user_id, count() FROM weir.events GROUP BY user_id")
    )
    expected = Counter(dict.fromkeys(quiet, 100)) + sent + Counter({quiet[0]: 50, quiet[1]: 50})
    assert users == expected
    weir.require_balanced_books()
    assert visits(weir, quiet[2:]) == before
    fact = weir.ask("SELECT DISTINCT toString(erasure_id), subject_hash FROM weir.erasures FINAL")
    assert fact == [(erasure_id, erasure["subject_hash"])]

    # What is put back from the topics is not theirs.
    repeats_of_others = count(weir, "SELECT count() FROM weir.duplicates FINAL")
    since = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="seconds")
    replayed = weir.run("replay", "--from", since)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert weir.run("scan", *sought).returncode == 0
    assert count(weir, "SELECT count() FROM weir.duplicates FINAL") == repeats_of_others
    weir.require_balanced_books()

    # What is read again of before comes to nothing, and who comes later is somebody new.
    send(weir, views(user, 10, "login", anonymous_id=device))  # a late retry
    old = accepted(
        1, source="web", workspace="people", user_id=user, received_at=erasure["until"] - 1_000
    )
    kafka = KafkaSettings(kafka_port=int(weir.environ["WEIR_KAFKA_PORT"]))
    value = avro.schemas()["Accepted"].encode(old)
    write_entries(kafka, topics.ACCEPTED, [(dedup_key("web", "replayed"), value)])
    usage = "SELECT sum(events) FROM weir.usage WHERE stage = 'identity' AND outcome = 'erased'"
    wait_until(lambda: count(weir, usage) == 1, PATIENCE, "the old event to be dropped")
    assert weir.run("scan", *sought).returncode == 0
    send(weir, views(user, 3, "later"))
    wait_until(
        lambda: (
            weir.ask(f"SELECT events FROM weir.profiles WHERE has(user_ids, '{user}')") == [(3,)]
        ),
        PATIENCE,
        "somebody new",
    )


def test_an_erasure_finishes_with_exact_counts_after_kills_of_the_eraser(weir: RunningWeir) -> None:
    users = [f"eve-{uuid.uuid4().hex}" for _ in range(3)]
    for user in users:
        send(weir, views(user, 1_500, user))
        send(weir, views(user, 100, user))
    stays = f"mallory-{uuid.uuid4().hex}"
    send(weir, views(stays, 700, stays))
    wait_until(
        lambda: (
            count(weir, "SELECT count() FROM weir.events WHERE startsWith(user_id, 'eve-')")
            == 4_500
        ),
        PATIENCE,
        "rows",
    )
    asked = {}
    for user in users:
        path = f"/v1/profiles/{weir.minted('people', f'u:{user}')}"
        assert ask(weir, path, "web-read", method="DELETE")[0] == 403
        assert ask(weir, path, "nobody's", method="DELETE")[0] == 401
        status, reply = ask(weir, path, "web-admin", method="DELETE")
        assert status == 202, reply
        again = ask(weir, path, "web-admin", method="DELETE")[1]
        assert again["erasure_id"] == reply["erasure_id"]
        asked[user] = reply["erasure_id"]

    def state_of(erasure_id: str) -> Any:
        status, reply = ask(weir, f"/v1/erasures/{erasure_id}", "web-admin")
        assert status == 200, reply
        return reply

    def has_come_to(user: str, step: str) -> bool:
        reply = state_of(asked[user])
        deleting = (reply["progress"]["phase"], reply["progress"]["of"]) == ("deleting", "events")
        return reply["state"] in (step, "finished") or (step == "deleting" and deleting)

    for user, step in zip(users, ("requested", "counted", "deleting"), strict=True):
        wait_until(
            lambda u=user, s=step: has_come_to(u, s),  # type: ignore[misc]
            PATIENCE,
            step,
        )
        kill_eraser(weir)
    for user in users:
        wait_until(lambda u=user: state_of(asked[u])["state"] == "finished", PATIENCE, user)  # type: ignore[misc]
        places = {p["place"]: p["rows"] for p in state_of(asked[user])["places"]}
        assert (places["table events"], places["table duplicates"]) == (1_500, 100)
        in_books = (
            "SELECT sumIf(rows, place = 'events'), sumIf(rows, place = 'duplicates')"
            f" FROM weir.erased_rows FINAL WHERE erasure_id = '{asked[user]}'"
        )
        wait_until(lambda s=in_books: weir.ask(s) == [(1_500, 100)], PATIENCE, "the books")  # type: ignore[misc]
    assert weir.run("scan", *users).returncode == 0
    kept = f"SELECT count() FROM weir.events WHERE user_id = '{stays}'"
    assert count(weir, kept) == 700
    elsewhere = ask(weir, f"/v1/erasures/{asked[users[0]]}", "elsewhere-admin")
    assert elsewhere[0] == 404


def kill_eraser(weir: RunningWeir) -> None:
    """Killed, and started again by its supervisor, on return."""
    pid = weir.pid("eraser")
    os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: weir.pid("eraser") not in (0, pid), PATIENCE, "the eraser again")
    print(f"eraser {pid} killed, back after {time.monotonic() - began:.1f} s")


def test_an_export_contains_every_record_held_about_a_person(weir: RunningWeir) -> None:
    user = f"grace-{uuid.uuid4().hex}"
    send(weir, views(user, 7, user, anonymous_id=f"device-of-{user}"))
    send(weir, views(user, 2, user, anonymous_id=f"device-of-{user}"))
    send(weir, [{"event": "$identify", "user_id": user, "properties": {"plan": "pro"}}])
    refused = {"event": "view", "user_id": user, "value": "no"}
    assert ask(weir, "/v1/events", "web-write", refused)[0] == 422
    dead(weir, user)

    def held() -> Counter[str]:
        result = weir.run("export", "--user", user, "--source", "web")
        assert result.returncode == 0, result.stderr
        return Counter(json.loads(line)["kind"] for line in result.stdout.splitlines())

    whole = Counter(
        person=1,
        profile=1,
        identifier=2,
        merge=1,  # the device is the user's
        session=1,
        event=8,
        duplicate=2,
        rejected=1,
        dead=1,
    )
    wait_until(lambda: held() == whole, PATIENCE, "all of it")
    lines = weir.run("export", "--user", user, "--source", "web").stdout.splitlines()
    profile = next(r for r in map(json.loads, lines) if r["kind"] == "profile")
    assert (profile["traits"], profile["events"]) == ({"plan": "pro"}, 8)
    nobody = weir.run("export", "--user", "nobody-of-that-name")
    assert nobody.returncode == 1
    assert "--source" in nobody.stderr
