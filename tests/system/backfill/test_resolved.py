"""A replay restores rows lost from ClickHouse from the topics, once, while live traffic flows."""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.events import accepted, accepted_output
from tests.support.running import wait_until
from tests.support.running_weir import RunningWeir, meanwhile, start_weir, stopped
from weir.adapters.kafka.clients import write_entries
from weir.core import topics
from weir.core.resource_paths import ROOT
from weir.settings.shared import KafkaSettings

EVENTS = 3_000
LIVE = 1_000
DAY_AGO = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="seconds")
DERIVED = ("usage_deltas", "profile_parts", "merges", "duplicates", "dead", "rejected")
COUNTS = "SELECT count(), uniqExact(event_id) FROM weir.events WHERE source = 'faults'"
VISITS = (
    "SELECT session_id, profile_id, events, entry_event, exit_event FROM weir.sessions"
    " WHERE workspace = 'faults' AND startsWith(entry_event, 'first') ORDER BY session_id"
)
PEOPLE = (
    "SELECT profile_id, events, sessions FROM weir.profiles WHERE workspace = 'faults'"
    " AND arrayExists(i -> startsWith(i, 'u:first'), identifiers) ORDER BY profile_id"
)
# what the page for operators says is to be done
MAKE_VISITS = re.findall(
    r"```sql\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL
)


@pytest.fixture(scope="module")
def weir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWeir]:
    """One of this module's own: its tables are emptied."""
    running = start_weir(tmp_path_factory.mktemp("replay"))
    try:
        yield running
    finally:
        assert running.stop() == 0, running.process.said()


def send(weir: RunningWeir, path: Path, name: str, count: int) -> None:
    with path.open("w") as file:
        for number in range(count):
            event = {
                "event": f"{name}-{number % 7}",
                "id": f"{name}-{number}",
                "user_id": f"{name}-{number % 500}",
                "anonymous_id": f"{name}-device-{number % 700}",
                "properties": {"price": number / 10},
            }
            file.write(json.dumps(event) + "\n")
    sent = weir.run("send", str(path), "--url", weir.gateway, "--key", "faults-write-key")
    assert sent.returncode == 0, sent.stdout + sent.stderr


def empty(weir: RunningWeir, *tables: str) -> None:
    for table in tables:
        cleared = weir.run("sql", f"TRUNCATE TABLE weir.{table}")
        assert cleared.returncode == 0, cleared.stderr


def replay(weir: RunningWeir, *options: str, code: int = 0) -> Any:
    result = weir.run("replay", "--from", DAY_AGO, *options)
    print(result.stdout, result.stderr)
    assert result.returncode == code, result.stdout + result.stderr
    return result


def test_a_replay_restores_all_lost_rows_while_live_traffic_flows(
    weir: RunningWeir, tmp_path: Path
) -> None:
    send(weir, tmp_path / "first.ndjson", "first", EVENTS)
    send(weir, tmp_path / "again.ndjson", "first", EVENTS // 10)
    unstorable = accepted(
        source="faults",
        workspace="faults",
        user_id="first-1",
        properties='{"price": 1e999}',
        received_at=time.time_ns() // 1_000_000,
    )
    settings = KafkaSettings(kafka_port=int(weir.environ["WEIR_KAFKA_PORT"]))
    write_entries(settings, topics.ACCEPTED, [accepted_output(unstorable)])
    weir.require_balanced_books()
    visits, people = weir.ask(VISITS), weir.ask(PEOPLE)
    assert visits
    assert people
    assert weir.ask("SELECT count() FROM weir.dead") == [(1,)]

    with stopped(weir, "sink"):
        empty(weir, "events", "session_segments", *DERIVED)
    with meanwhile(send, weir, tmp_path / "live.ndjson", "live", LIVE):
        # which of them had died is told by a table that is empty, too
        assert f"{EVENTS + 1:,} missing" in replay(weir, "--dry-run", "--events-only").stdout
        back = replay(weir, "--rate", "3000")
    assert f"{EVENTS:,} missing and restored, 1 left alone" in back.stdout
    weir.require_balanced_books()
    assert weir.ask(COUNTS) == [(EVENTS + LIVE, EVENTS + LIVE)]
    assert weir.ask(VISITS) == visits
    assert weir.ask(PEOPLE) == people


def test_a_second_replay_finds_nothing_missing(weir: RunningWeir) -> None:
    before, visits = weir.ask(COUNTS), weir.ask(VISITS)
    assert " 0 missing and restored" in replay(weir).stdout
    weir.require_balanced_books()
    assert (weir.ask(COUNTS), weir.ask(VISITS)) == (before, visits)


def test_a_replay_restores_rows_that_were_restored_and_lost_again(weir: RunningWeir) -> None:
    """The insert tokens that ClickHouse remembers from the first replay do not prevent it."""
    before, visits = weir.ask(COUNTS), weir.ask(VISITS)
    for _ in range(2):
        with stopped(weir, "sink"):
            empty(weir, "events", "session_segments")
        replay(weir, "--events-only")
        assert (weir.ask(COUNTS), weir.ask(VISITS)) == (before, visits)
    weir.require_balanced_books()


def test_a_replay_with_stale_sessions_is_refused_until_they_are_rebuilt(weir: RunningWeir) -> None:
    before, visits = weir.ask(COUNTS), weir.ask(VISITS)
    gone = "source = 'faults' AND startsWith(event, 'first-3')"
    ((lost,),) = weir.ask(f"SELECT count() FROM weir.events WHERE {gone}")
    assert weir.run("sql", f"DELETE FROM weir.events WHERE {gone}").returncode == 0
    wait_until(
        lambda: weir.ask(f"SELECT count() FROM weir.events WHERE {gone}") == [(0,)], 60, "the rows"
    )
    refused = replay(weir, code=1)
    assert f"session_segments counts {lost:,} more events" in refused.stderr
    with stopped(weir, "sink"):
        for statement in MAKE_VISITS:
            assert weir.run("sql", statement).returncode == 0
    assert f"{lost:,} missing and restored" in replay(weir).stdout
    weir.require_balanced_books()
    assert (weir.ask(COUNTS), weir.ask(VISITS)) == (before, visits)


def test_a_replay_restores_only_the_chosen_time_range_and_source(weir: RunningWeir) -> None:
    with stopped(weir, "sink"):
        empty(weir, "events", "session_segments")
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds")
    for others in (("--source", "shop"), ("--to", hour_ago)):
        assert "0 events present, 0 missing" in replay(weir, "--events-only", *others).stdout
    assert f"{EVENTS + LIVE:,} missing and restored" in replay(weir, "--source", "faults").stdout
    weir.require_balanced_books()
