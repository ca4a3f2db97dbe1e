"""Commands at the terminal show an operator the state of a running Weir."""

import json
from typing import Any

from tests.support.running import wait_until
from tests.support.running_weir import RunningWeir
from weir.core.stages import GROUPS


def test_status_shows_every_process_ready_and_every_group_at_work(weir: RunningWeir) -> None:
    def look() -> Any:
        result = weir.run("status", "--json")
        assert result.returncode == 0, result.stdout + result.stderr
        return json.loads(result.stdout)

    def health() -> dict[str, str]:
        return {process["name"]: process["health"] for process in look()["processes"]}

    # another test may have killed one of them just now
    wait_until(lambda: set(health().values()) <= {"ready", "running"}, 60, "all to be ready")
    assert {"kafka", "warehouse", "gateway", "dedup", "identity", "rates", "sink"} <= set(health())
    groups = {group["group"]: group["instances"] for group in look()["groups"]}
    assert groups == dict.fromkeys(GROUPS, 1)


def test_events_sent_with_weir_send_are_read_with_weir_sql(weir: RunningWeir) -> None:
    sql = "SELECT count() FROM weir.events WHERE source = 'terminal'"
    sent = weir.run(
        "send", "tests/system/cli/sent.ndjson", "--url", weir.gateway, "--key", "terminal-key"
    )
    assert sent.returncode == 1  # one of them is refused
    assert "2 accepted, 1 rejected, 0 not delivered of 3" in sent.stdout
    wait_until(lambda: weir.ask(sql) == [(2,)], 30, "two rows")
    weir.require_balanced_books()
    table = weir.run(
        "sql", "SELECT event FROM weir.events WHERE source = 'terminal' ORDER BY event"
    )
    assert table.stdout.split() == ["event", "hello", "world", "2", "rows"]
    refused = "SELECT count() FROM weir.rejected WHERE source = 'terminal'"
    wait_until(lambda: weir.ask(refused) == [(1,)], 30, "the refused one")


def test_dead_list_shows_no_dead_letters_of_the_sent_events(weir: RunningWeir) -> None:
    result = weir.run("dead", "list", "--source", "terminal")
    assert result.stdout == "No dead letters.\n"
