"""A replay of `events.accepted` restores what later topics lost, once, with each person's identity."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from tests.support.events import accepted, accepted_output
from tests.support.running import start_process, wait_until
from tests.support.running_weir import Row, RunningWeir, start_weir, stopped
from tests.system.backfill.test_resolved import (
    DAY_AGO,
    DERIVED,
    MAKE_VISITS,
    PEOPLE,
    VISITS,
    empty,
    replay,
    send,
)
from weir.adapters.kafka.admin import KafkaAdmin
from weir.adapters.kafka.clients import write_entries
from weir.adapters.kafka.group_progress import GroupProgress
from weir.cli.topics import apply_topics
from weir.core import topics
from weir.settings.shared import KafkaSettings

EVENTS = 3_000
UNSEEN = 400
LIVE = 1_000
COUNTS = "SELECT count(), uniqExact(event_id) FROM weir.events WHERE source = 'faults'"
ROWS = (
    "SELECT event_id, profile_id, session_id, toString(properties) FROM weir.events"
    " WHERE source = 'faults' AND startsWith(event, '{}') ORDER BY event_id"
)
WEBHOOK = {
    "source": "mapped",
    "workspace": "mapped",
    "event": "order-paid",
    "wants_profile": False,
    "properties": '{"customer": {"id": "carl"}}',
}
MAPPED = "SELECT user_id, profile_id FROM weir.events WHERE source = 'mapped'"
LOST = ("events", "session_segments", *DERIVED)


@pytest.fixture(scope="module")
def weir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWeir]:
    """One of this module's own: its topics are deleted."""
    running = start_weir(tmp_path_factory.mktemp("accepted"))
    try:
        yield running
    finally:
        assert running.stop() == 0, running.process.said()


def kafka(weir: RunningWeir) -> KafkaSettings:
    return KafkaSettings(kafka_port=int(weir.environ["WEIR_KAFKA_PORT"]))


def accept(weir: RunningWeir, number: int, **fields: Any) -> None:
    """An event that no door would let in, or not so."""
    names = {"source": "faults", "workspace": "faults"}
    now = time.time_ns() // 1_000_000
    record = accepted(number, **{**names, "received_at": now, "occurred_at": now, **fields})
    write_entries(kafka(weir), topics.ACCEPTED, [accepted_output(record)])


def remake(weir: RunningWeir, *names: str) -> None:
    """Topics deleted and made again: what was in them is lost."""
    admin = AdminClient({"bootstrap.servers": kafka(weir).bootstrap()})
    for deleted in admin.delete_topics(list(names)).values():
        deleted.result(30)
    wait_until(
        lambda: not set(names) & set(admin.list_topics(timeout=30).topics), 30, "the deletion"
    )
    apply_topics(kafka(weir))


@contextmanager
def ended(weir: RunningWeir, *services: str) -> Iterator[None]:
    """They stand still meanwhile, and are started anew afterwards."""
    pids = {service: weir.pid(service) for service in services}
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        for service, pid in pids.items():
            wait_until(lambda s=service, p=pid: weir.pid(s) not in (0, p), 60, service)  # type: ignore[misc]


def dedup_has_all(weir: RunningWeir) -> bool:
    admin = KafkaAdmin(kafka(weir))
    try:
        passing = GroupProgress(admin)
        return passing.unread("weir.dedup", passing.ends([topics.ACCEPTED])) == 0
    finally:
        admin.close()


def rows(weir: RunningWeir, name: str) -> list[Row]:
    return weir.ask(ROWS.format(name))


def test_a_replay_of_accepted_events_restores_all_rows_while_live_traffic_flows(
    weir: RunningWeir, tmp_path: Path
) -> None:
    send(weir, tmp_path / "first.ndjson", "first", EVENTS)
    send(weir, tmp_path / "again.ndjson", "first", EVENTS // 10)
    accept(weir, 1, user_id="first-1", properties='{"price": 1e999}')  # ClickHouse refuses it
    accept(weir, 2, user_id="first-1", event="$identify", properties="[]")  # identity refuses it
    accept(weir, 3, user_id="first-1", saved=False)
    write_entries(kafka(weir), topics.ACCEPTED, [(b"faults\0" + bytes(16), b"no event")])
    accept(weir, 4, **WEBHOOK)
    weir.require_balanced_books()
    visits, people, before = weir.ask(VISITS), weir.ask(PEOPLE), rows(weir, "first")
    mapped = weir.ask(MAPPED)
    assert [user for user, _ in mapped] == ["carl"]
    assert weir.ask("SELECT count() FROM weir.dead") == [(3,)]
    assert weir.ask(COUNTS) == [(EVENTS, EVENTS)]

    with ended(weir, "identity", "sink"):
        send(weir, tmp_path / "unseen.ndjson", "unseen", UNSEEN)
        wait_until(lambda: dedup_has_all(weir), 60, "dedup")
        remake(weir, topics.UNIQUE, topics.RESOLVED)
        empty(weir, *LOST)
    live = threading.Thread(target=send, args=(weir, tmp_path / "live.ndjson", "live", LIVE))
    live.start()
    output = replay(weir, "--origin", "accepted", "--rate", "3000").stdout
    live.join()
    # who had died was told by a table that is empty, and by the topic
    assert f"{EVENTS + UNSEEN + 1:,} missing and restored, 2 left alone, 1 unsaved" in output
    weir.require_balanced_books("--ids")
    audit = weir.run("audit", "--ids")
    print(audit.stdout)
    assert audit.returncode == 0, audit.stdout
    assert f"{UNSEEN:,} stored events" in audit.stdout
    assert "are missing in identity's accounts" in audit.stdout
    assert rows(weir, "first") == before
    assert len(rows(weir, "unseen")) == UNSEEN
    assert weir.ask(MAPPED) == mapped
    assert weir.ask(COUNTS) == [(EVENTS + UNSEEN + LIVE,) * 2]
    assert weir.ask(VISITS) == visits
    assert weir.ask(PEOPLE) == people


def test_a_second_replay_finds_nothing_missing_and_leaves_no_scratch_state(
    weir: RunningWeir,
) -> None:
    before, visits = rows(weir, ""), weir.ask(VISITS)
    output = replay(weir, "--origin", "accepted").stdout
    assert "events.accepted: 4,401 events present, 0 missing and restored, 2 left alone" in output
    assert (rows(weir, ""), weir.ask(VISITS)) == (before, visits)
    assert list((Path(weir.environ["WEIR_DATA_DIR"]) / "state").glob("replay-*")) == []


def test_a_replay_of_partly_lost_rows_is_refused_until_sessions_are_rebuilt(
    weir: RunningWeir,
) -> None:
    before, visits = rows(weir, ""), weir.ask(VISITS)
    gone = "source = 'faults' AND startsWith(event, 'first-3')"
    ((lost,),) = weir.ask(f"SELECT count() FROM weir.events WHERE {gone}")
    with ended(weir, "sink"):
        remake(weir, topics.RESOLVED)
        assert weir.run("sql", f"DELETE FROM weir.events WHERE {gone}").returncode == 0
        assert weir.ask(f"SELECT count() FROM weir.events WHERE {gone}") == [(0,)]
    refused = replay(weir, "--origin", "accepted", code=1)
    assert f"session_segments counts {lost:,} more events" in refused.stderr
    with stopped(weir, "sink"):
        for statement in MAKE_VISITS:
            assert weir.run("sql", statement).returncode == 0
    # what is not asked for stays away
    others = replay(weir, "--origin", "accepted", "--source", "shop")
    assert "events.accepted: 0 events present, 0 missing" in others.stdout
    dry = replay(weir, "--origin", "accepted", "--dry-run").stdout
    assert f"{4_401 - lost:,} events present, {lost:,} missing, 2 left alone" in dry
    output = replay(weir, "--origin", "accepted").stdout
    assert f"{4_401 - lost:,} events present, {lost:,} missing and restored, 2 left alone" in output
    assert (rows(weir, ""), weir.ask(VISITS)) == (before, visits)
    weir.require_balanced_books("--ids")


def test_a_later_replay_of_another_origin_ends_an_earlier_one(
    weir: RunningWeir, tmp_path: Path
) -> None:
    """Two at once would each take the other's rows for missing."""
    before, visits = weir.ask(COUNTS), weir.ask(VISITS)
    with stopped(weir, "sink"):
        empty(weir, "events", "session_segments")
    options = ("--from", DAY_AGO, "--origin", "accepted", "--events-only", "--rate", "50")
    command = [sys.executable, "-m", "weir.cli.main", "replay", *options]
    first = start_process(command, tmp_path / "first.log", weir.environ)
    try:
        wait_until(lambda: weir.ask(COUNTS) != [(0, 0)], 60, "its first rows")
        # the first one's stores are in the way: it is left alone
        refused = replay(weir, "--origin", "accepted", code=1)
        assert "Another replay is running: " in refused.stderr
        replay(weir, "--events-only", "--source", "faults", "--rate", "0")
        assert first.process.wait(120) == 1
    finally:
        first.kill()
    assert "Another replay has started and has ended this one." in first.said()
    replay(weir, "--origin", "accepted")
    assert (weir.ask(COUNTS), weir.ask(VISITS)) == (before, visits)
    weir.require_balanced_books("--ids")
