"""Each replayed dead letter or rejected event is stored once, whatever interrupts the replay."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import uuid_utils

from tests.support.books import passed_through
from tests.support.events import accepted, accepted_output
from tests.support.records import dead_letter
from tests.support.running import wait_until
from tests.support.running_weir import RunningWeir, start_weir
from weir.adapters.kafka.clients import write_entries
from weir.core import topics
from weir.core.identifiers import dedup_key, workspace_key
from weir.core.resource_paths import ROOT
from weir.settings.shared import KafkaSettings

PATIENCE = 60
SOURCE = "letters"
KEY = "letters-write"
SOURCES = f"sources: {{{SOURCE}: {{workspace: {SOURCE}, write_keys: [{KEY}], open_by_id: true}}}}"
UNSTORABLE = '{"price": 1e999}'  # JSON, and no number that ClickHouse's has
MANY = 400


@pytest.fixture(scope="module")
def weir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWeir]:
    """One of this module's own: letters that were made up would not balance another's books."""
    folder = tmp_path_factory.mktemp("letters")
    running = start_weir(folder / "data")
    try:
        (folder / "sources.yaml").write_text(SOURCES)
        applied = running.run("apply", str(folder / "sources.yaml"))
        assert applied.returncode == 0, applied.stdout + applied.stderr
        wait_until(lambda: send(running, "warm-up")[0] == 202, PATIENCE, "the source")
        yield running
    finally:
        assert running.stop() == 0, running.process.said()


def send(weir: RunningWeir, key: str, **event: Any) -> tuple[int, Any]:
    body = json.dumps({"event": "sent", "id": key} | event).encode()
    request = urllib.request.Request(
        f"{weir.gateway}/v1/events", body, {"Authorization": f"Bearer {KEY}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as fault:
        return fault.code, json.load(fault)


def write(weir: RunningWeir, topic: str, entries: Sequence[tuple[bytes, bytes]]) -> None:
    settings = KafkaSettings(kafka_port=int(weir.environ["WEIR_KAFKA_PORT"]))
    write_entries(settings, topic, entries)


def event(key: str, **fields: Any) -> dict[str, Any]:
    """An accepted event of a run of its own."""
    minted = uuid_utils.uuid7()
    record = accepted(
        source=SOURCE,
        workspace=SOURCE,
        idempotency_key=key,
        event="died",
        user_id="ada",
        received_at=minted.timestamp,
        occurred_at=minted.timestamp,
        **fields,
    )
    return record | {"event_id": minted.bytes}


def id_of(record: dict[str, Any]) -> str:
    return str(uuid.UUID(bytes=record["event_id"]))


def died(weir: RunningWeir, step: str, topic: str, records: Sequence[dict[str, Any]]) -> list[str]:
    """Dead letters of whole events, as a worker of an earlier version may have left them; their names."""
    first = uuid.uuid4().int % (1 << 40)
    letters, names = [], []
    for offset, record in enumerate(records, first):
        key, value = accepted_output(record)
        if topic == topics.UNIQUE:
            key = workspace_key(SOURCE, record["identity_key"])
        fields = {"origin_topic": topic, "key": key, "value": value, "step": step}
        known = {name: record[name] for name in ("source", "received_at", "event_id")}
        letters.append((b"test", dead_letter(offset, **fields, **known)))
        names.append(f"{topic}/1/{offset}")
    write(weir, topics.DEAD, letters)
    quoted = ", ".join(f"'{name}'" for name in names)
    place = "concat(origin_topic, '/', toString(origin_partition), '/', toString(origin_offset))"
    stored = f"SELECT uniqExact({place}) FROM weir.dead WHERE {place} IN ({quoted})"
    wait_until(lambda: weir.ask(stored) == [(len(names),)], PATIENCE, "the letters' rows")
    return names


def chosen(names: Sequence[str]) -> list[str]:
    return [part for name in names for part in ("--id", name)]


def listed(weir: RunningWeir, *names: str) -> list[dict[str, Any]]:
    result = weir.run("dead", "list", "--limit", "1000", "--source", SOURCE, "--json")
    assert result.returncode == 0, result.stderr
    return [letter for letter in json.loads(result.stdout) if letter["id"] in names]


def replay(weir: RunningWeir, kind: str, *options: str, code: int = 0) -> Any:
    result = weir.run(kind, "replay", "--json", *options)
    print(result.stdout, result.stderr)
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


@contextmanager
def begun(weir: RunningWeir, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that is at work meanwhile; killed at the end if it still is."""
    with subprocess.Popen(
        [sys.executable, "-m", "weir.cli.main", *arguments],
        cwd=ROOT,
        env=dict(weir.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def rows(weir: RunningWeir, key: str) -> list[tuple[str, str]]:
    """Event ids and prices stored under a client's key: doubles would show."""
    found = weir.ask(
        "SELECT toString(event_id), toString(properties.price) FROM weir.events"
        f" WHERE source = '{SOURCE}' AND idempotency_key = '{key}'"
    )
    return [(str(event_id), str(price)) for event_id, price in found]


def recovered(weir: RunningWeir, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """What the table has of these letters once it has all of them."""
    wait_until(lambda: len(recoveries(weir, names)) >= len(names), PATIENCE, "the ledger's rows")
    return recoveries(weir, names)


def recoveries(weir: RunningWeir, names: Sequence[str]) -> list[tuple[Any, ...]]:
    quoted = ", ".join(f"'{name}'" for name in names)
    return weir.ask(
        "SELECT letter, step, toString(event_id), edited FROM weir.recoveries FINAL"
        f" WHERE letter IN ({quoted}) ORDER BY letter"
    )


@pytest.mark.parametrize(
    ("step", "topic"), [("dedup", topics.ACCEPTED), ("identity", topics.UNIQUE)]
)
def test_a_workers_dead_letter_is_replayed_once(weir: RunningWeir, step: str, topic: str) -> None:
    record = event(f"{step}-{uuid.uuid4()}", properties='{"price": 5}')
    (name,) = names = died(weir, step, topic, [record])
    dry = replay(weir, "dead", "--step", step, *chosen(names), "--dry-run")
    assert (dry["replayed"], recoveries(weir, names)) == (1, [])

    assert replay(weir, "dead", *chosen(names))["replayed"] == 1
    key = record["idempotency_key"]
    wait_until(lambda: rows(weir, key), PATIENCE, "the row")
    assert replay(weir, "dead", *chosen(names))["recovered_before"] == 1
    write(weir, topics.ACCEPTED, [accepted_output(event("later"))])
    passed_through(weir.run)
    assert rows(weir, key) == [(id_of(record), "5")]
    assert recovered(weir, names) == [(name, step, id_of(record), False)]
    assert listed(weir, name)[0]["recovered"] != ""


def test_an_event_refused_by_clickhouse_is_stored_after_an_edited_replay(weir: RunningWeir) -> None:
    record = event(f"sink-{uuid.uuid4()}", properties=UNSTORABLE)
    write(weir, topics.ACCEPTED, [accepted_output(record)])
    only = ("--step", "sink", "--id", id_of(record))

    def letters() -> list[Any]:
        summary = weir.run("dead", "list", *only, "--json")
        return list(json.loads(summary.stdout))

    stored = f"SELECT count() FROM weir.dead WHERE event_id = '{id_of(record)}'"
    wait_until(lambda: weir.ask(stored) == [(1,)], PATIENCE, "the dead letter")
    (letter,) = letters()
    assert letter["reason"] == "refused_by_clickhouse"

    nowhere = replay(weir, "dead", *only, "--set", "properties.no.such=1", code=1)
    assert list(nowhere["not_replayed"]) == ["there is no properties.no"]
    fixed = replay(weir, "dead", *only, "--set", "user_id=bob", code=1)
    assert "user_id is already decided" in next(iter(fixed["not_replayed"]))

    summary = replay(weir, "dead", *only, "--set", "properties.price=12.5")
    assert (summary["replayed"], summary["edited"]) == (1, 1)
    wait_until(lambda: rows(weir, record["idempotency_key"]), PATIENCE, "the row")
    assert rows(weir, record["idempotency_key"]) == [(id_of(record), "12.5")]
    assert recovered(weir, [letter["id"]])[0][3] is True


def test_an_unreadable_dead_letter_is_replayed_unchanged_and_cannot_be_edited(
    weir: RunningWeir,
) -> None:
    key = f"garbage-{uuid.uuid4()}"
    value = accepted_output(event(key)).value[:30]
    write(weir, topics.ACCEPTED, [(dedup_key(SOURCE, key), value)])

    def letters() -> list[str]:
        summary = weir.ask(
            "SELECT concat(origin_topic, '/', toString(origin_partition), '/',"
            f" toString(origin_offset)) FROM weir.dead WHERE value = unhex('{value.hex()}')"
        )
        return [str(name) for (name,) in summary]

    wait_until(letters, PATIENCE, "the dead letter")
    (name,) = letters()
    summary = replay(weir, "dead", "--id", name, "--set", "event=x", code=1)
    assert "cannot be read" in next(iter(summary["not_replayed"]))
    assert replay(weir, "dead", "--id", name)["replayed"] == 1
    wait_until(lambda: len(letters()) == 2, PATIENCE, "its second death")
    assert replay(weir, "dead", "--id", name)["recovered_before"] == 1


def test_a_replay_does_not_replay_the_new_dead_letters_that_it_causes(weir: RunningWeir) -> None:
    """This holds over several pages, although new letters follow old ones in their partition."""
    source, count = f"garbage-{uuid.uuid4().hex[:8]}", 230
    value = accepted_output(event("garbage")).value[:30]
    write(weir, topics.ACCEPTED, [(dedup_key(source, "one partition"), value)] * count)
    letters = f"SELECT count() FROM weir.dead FINAL WHERE source = '{source}'"
    wait_until(lambda: weir.ask(letters) == [(count,)], PATIENCE, "the dead letters")
    summary = replay(weir, "dead", "--source", source, "--rate", "50")
    assert summary["replayed"] == count
    wait_until(lambda: weir.ask(letters) == [(2 * count,)], PATIENCE, "their second deaths")


def test_a_dead_letter_is_not_replayed_when_its_client_has_resent_the_event(
    weir: RunningWeir,
) -> None:
    """The stored row is found by its key, so this holds even after the dedup window."""
    key = f"again-{uuid.uuid4()}"
    records = [event(key, dedup_window_seconds=1), event(key, dedup_window_seconds=1)]
    names = died(weir, "identity", topics.UNIQUE, records[:1])
    names += died(weir, "dedup", topics.ACCEPTED, records[1:])
    status, reply = send(weir, key, properties={"price": 7})
    assert status == 202
    wait_until(lambda: rows(weir, key), PATIENCE, "the row")
    summary = replay(weir, "dead", *chosen(names))
    sent = reply["event_ids"][0]
    assert (summary["replayed"], summary["stored"]) == (0, dict.fromkeys(names, sent))
    assert rows(weir, key) == [(sent, "7")]


def test_a_replay_that_is_killed_and_repeated_sends_each_once(weir: RunningWeir) -> None:
    run = uuid.uuid4().hex[:8]
    records = [event(f"{run}-{n}") for n in range(MANY)]
    names = died(weir, "identity", topics.UNIQUE, records)
    since = ("--source", SOURCE, "--step", "identity", "--since", "2000-01-01")
    counted = (
        "SELECT count(), uniqExact(event_id) FROM weir.events"
        f" WHERE startsWith(idempotency_key, '{run}-')"
    )
    with begun(weir, "dead", "replay", *since, "--rate", "10"):
        wait_until(lambda: weir.ask(counted)[0][0] > 0, PATIENCE, "the first of them")
    summary = replay(weir, "dead", *since)
    assert 0 < summary["replayed"] < MANY
    wait_until(lambda: weir.ask(counted)[0][0] >= MANY, PATIENCE, "all of them")
    assert replay(weir, "dead", *since)["replayed"] == 0
    passed_through(weir.run)
    assert weir.ask(counted) == [(MANY, MANY)]
    assert len(recovered(weir, names)) == MANY


def test_a_second_replay_ends_the_first(weir: RunningWeir) -> None:
    run = uuid.uuid4().hex[:8]
    names = died(weir, "identity", topics.UNIQUE, [event(f"{run}-{n}") for n in range(60)])
    with begun(weir, "dead", "replay", "--rate", "1", *chosen(names)) as first:
        wait_until(lambda: recoveries(weir, names), PATIENCE, "the first of them")
        replay(weir, "dead", *chosen(names))
        _, complaint = first.communicate(timeout=PATIENCE)
    assert first.returncode == 1
    assert "Another replay has started" in complaint
    passed_through(weir.run)
    counted = f"SELECT count(), uniqExact(event_id) FROM weir.events WHERE startsWith(idempotency_key, '{run}-')"
    assert weir.ask(counted) == [(60, 60)]


# --- refusals


def refused(weir: RunningWeir, key: str) -> list[str]:
    found = weir.ask(
        f"SELECT toString(event_id) FROM weir.rejected FINAL WHERE client_id = '{key}'"
    )
    return [str(event_id) for (event_id,) in found]


def test_an_edited_rejected_event_is_validated_and_stored_under_its_id(weir: RunningWeir) -> None:
    key = f"refused-{uuid.uuid4()}"
    assert send(weir, key, value="12", properties={"price": 1})[0] == 422
    wait_until(lambda: refused(weir, key), PATIENCE, "the refusal's row")
    (letter,) = refused(weir, key)
    again = replay(weir, "rejected", "--id", letter, code=1)
    assert again["refused_again"][letter][0]["code"] == "wrong_type"
    shown = weir.run("rejected", "show", letter)
    assert '"value": "12"' in shown.stdout
    summary = replay(weir, "rejected", "--id", letter, "--set", "value=12", "--set", "user_id=ada")
    assert (summary["replayed"], summary["edited"]) == (1, 1)
    wait_until(lambda: rows(weir, key), PATIENCE, "the row")
    assert replay(weir, "rejected", "--id", letter, "--set", "value=12")["recovered_before"] == 1
    received = f"WHERE event_id = '{letter}'"
    assert rows(weir, key) == [(letter, "1")]
    assert weir.ask(f"SELECT received_at, value FROM weir.events {received}") == [
        (weir.ask(f"SELECT received_at FROM weir.rejected FINAL {received}")[0][0], 12.0)
    ]
    assert recovered(weir, [letter]) == [(letter, "gateway", letter, True)]
    by_code = weir.run("rejected", "list", "--code", "wrong_type", "--json")
    assert letter in {one["id"] for one in json.loads(by_code.stdout)}


def test_a_rejected_event_is_not_replayed_when_its_client_has_resent_it(weir: RunningWeir) -> None:
    key = f"mended-{uuid.uuid4()}"
    assert send(weir, key, value="12")[0] == 422
    wait_until(lambda: refused(weir, key), PATIENCE, "the refusal's row")
    assert send(weir, key, value=12, properties={"price": 1})[0] == 202
    wait_until(lambda: rows(weir, key), PATIENCE, "the row")
    (letter,) = refused(weir, key)
    summary = replay(weir, "rejected", "--id", letter, "--set", "value=12")
    assert (summary["replayed"], list(summary["stored"])) == (0, [letter])
    assert len(rows(weir, key)) == 1


def test_replaying_a_rejected_batch_skips_events_already_stored(
    weir: RunningWeir,
) -> None:
    first, second = f"first-{uuid.uuid4()}", f"second-{uuid.uuid4()}"
    events = [{"event": "sent", "id": key, "properties": {"price": 1}} for key in (first, second)]
    body = json.dumps({"events": [*events, {"event": second[:20]}], "context": 1}).encode()
    request = urllib.request.Request(
        f"{weir.gateway}/v1/events", body, {"Authorization": f"Bearer {KEY}"}
    )
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=60)
    found = f"SELECT toString(event_id) FROM weir.rejected WHERE position(payload, '{first}') > 0"
    wait_until(lambda: weir.ask(found), PATIENCE, "the refusal's row")
    ((letter,),) = weir.ask(found)
    status, reply = send(weir, first, properties={"price": 7})  # the client mends a part of it
    assert status == 202
    wait_until(lambda: rows(weir, first), PATIENCE, "its row")
    (sent,) = reply["event_ids"]
    mended = ("--id", letter, "--unset", "context")
    for summary in (
        replay(weir, "rejected", *mended, "--dry-run"),
        replay(weir, "rejected", *mended),
    ):
        assert (summary["replayed"], summary["stored"]) == (1, {})
        assert summary["stored_in_part"] == {letter: [sent]}
    keyless = f"SELECT count() FROM weir.events WHERE event = '{second[:20]}'"
    wait_until(lambda: weir.ask(keyless) == [(1,)], PATIENCE, "the one without a key")
    wait_until(lambda: rows(weir, second), PATIENCE, "the other")
    assert replay(weir, "rejected", *mended)["recovered_before"] == 1
    passed_through(weir.run)
    assert [len(rows(weir, key)) for key in (first, second)] == [1, 1]
    assert rows(weir, first) == [(sent, "7")]
    assert weir.ask(keyless) == [(1,)]


def test_replaying_a_rejected_webhook_explains_its_lost_url_and_the_door_option(
    weir: RunningWeir,
) -> None:
    number = uuid.uuid4().int
    request = urllib.request.Request(f"{weir.gateway}/collect/paid/{SOURCE}", b"[%d]" % number)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=60)
    found = f"SELECT toString(event_id) FROM weir.rejected WHERE payload = '[{number}]'"
    wait_until(lambda: weir.ask(found), PATIENCE, "the refusal's row")
    ((letter,),) = weir.ask(found)
    summary = replay(weir, "rejected", "--id", letter, code=1)
    (reason,) = summary["not_replayed"]
    assert "which was in its URL, is not kept" in reason
    assert "--door events" in reason
    sets = ("--door", "events", "--set", '[0]={"event": "paid"}')
    assert replay(weir, "rejected", "--id", letter, *sets)["replayed"] == 1
    stored = f"SELECT event FROM weir.events WHERE event_id = '{letter}'"
    wait_until(lambda: weir.ask(stored) == [("paid",)], PATIENCE, "the row")
