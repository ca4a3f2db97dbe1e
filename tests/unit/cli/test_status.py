"""`weir status` shows problems first, then tables; a process's health is its /readyz answer."""

import dataclasses
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from weir.cli.status import rendered
from weir.cli.status_snapshot import (
    GroupStatus,
    ProcessEntry,
    ProcessStatus,
    RetentionStatus,
    SourceStatus,
    StatusSnapshot,
    probe,
    read_children,
    source_status,
)
from weir.embedded.ports import free_port

QUOTA = {"name": "plan", "used": 1_200, "limit": 1_000, "unit": "events", "period": "month"}
LOOK = StatusSnapshot(
    at=0,
    kafka="",
    clickhouse="",
    stored=1_234_567,
    processes=[ProcessStatus("dedup", 1, 4711, "restoring", 12.4, 99.6)],
    groups=[GroupStatus("weir.dedup", 2, 1_500, 900.0, 1_000.0)],
    sources=[SourceStatus("demo", 12.34, 99, [{**QUOTA, "exceeded": True}])],
)


def text_of(look: StatusSnapshot) -> str:
    console = Console(width=300)
    with console.capture() as capture:
        console.print(rendered(look))
    return capture.get()


def test_status_tables_show_processes_groups_sources_and_stored_events() -> None:
    lines = [line.split() for line in text_of(LOOK).splitlines()]
    assert ["dedup-1", "4711", "12", "%", "100", "MB", "restoring"] in lines
    assert ["weir.dedup", "2", "1,500", "1,000", "900"] in lines
    assert ["demo", "12.3", "99", "plan", "1,200/1,000", "events", "a", "month"] in lines
    assert ["1,234,567", "events", "stored"] in lines


def test_a_long_source_name_is_truncated_and_does_not_widen_the_table() -> None:
    """A foreign record's key can be any bytes, so a source name can have any length."""
    look = dataclasses.replace(LOOK, sources=[SourceStatus("x" * 300, 1, 1, [])])
    assert max(len(line.rstrip()) for line in text_of(look).splitlines()) < 100
    assert "x" * 47 + "…" in text_of(look)


def test_records_behind_an_open_transaction_are_reported_before_the_tables() -> None:
    group = GroupStatus("weir.identity", 1, 5, 0, 0, 5, ("events.unique",))
    first = text_of(dataclasses.replace(LOOK, groups=[group])).splitlines()[0]
    assert first.startswith(
        "weir.identity: 5 of its records wait behind an open transaction in events.unique."
    )


def test_unreachable_services_are_reported_first() -> None:
    look = StatusSnapshot(0, "Kafka does not answer.", "ClickHouse does not answer.", 0, [], [], [])
    assert text_of(look).splitlines() == [
        "Kafka does not answer.",
        "ClickHouse does not answer.",
        "No process of `weir up` runs on this data folder.",
    ]


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        ((), "or lengthen the retention."),
        (("flood", "shop"), "gateways reject new events of flood, shop (503)."),
        (("*",), "gateways reject new events of every source (503)."),
    ],
)
def test_unread_records_near_their_deletion_are_reported_before_the_tables(
    refused: tuple[str, ...], expected: str
) -> None:
    behind = RetentionStatus("weir.sink", "events.resolved", 0.634, refused)
    first = text_of(dataclasses.replace(LOOK, behind=[behind])).splitlines()[0]
    assert first.startswith("weir.sink has not read records of events.resolved that have used 63%")
    assert first.endswith(expected)


def test_a_silent_source_has_rate_0_and_a_reset_quota_has_usage_0() -> None:
    quota = {**QUOTA, "exceeded": True, "resets_at": 500_000}
    usage = {"updated_at": 400_000, "current_rate": 9.5, "peak_rate": 20.0, "quotas": [quota]}
    assert source_status("s", usage, 450_000) == SourceStatus("s", 9.5, 20.0, [quota])
    later = source_status("s", usage, 600_000)
    assert (later.rate, later.peak) == (0.0, 20.0)
    assert (later.quotas[0]["used"], later.quotas[0]["exceeded"]) == (0, False)


def test_a_missing_or_broken_process_file_lists_no_processes(tmp_path: Path) -> None:
    path = tmp_path / "up.json"
    assert read_children(path) == []
    path.write_text('[{"name": ')
    assert read_children(path) == []
    path.write_text('[{"name":"dedup","pid":7,"instance":1,"metrics_port":9000,"more":1}]')
    assert read_children(path) == [ProcessEntry("dedup", 7, 1, 9000)]


@pytest.fixture
def worker() -> Iterator[tuple[int, dict[str, tuple[int, bytes]]]]:
    """A port whose `/readyz` answers what the dict says."""
    says: dict[str, tuple[int, bytes]] = {}

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            status, body = says[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, says
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "health"),
    [
        (200, b"ready\n", "ready"),
        (503, b"restoring 2 partitions\n", "restoring 2 partitions"),
        (503, b'{"title":"Not ready","detail":"no produce lately"}', "no produce lately"),
        (503, b"", "not ready (503)"),
        (404, b"none", "running"),
    ],
)
def test_health_of_a_process_is_its_readyz_answer(
    worker: tuple[int, dict[str, tuple[int, bytes]]], status: int, body: bytes, health: str
) -> None:
    port, says = worker
    says["/readyz"] = (status, body)
    assert probe(ProcessEntry("any", 1, 0, port)) == health


def test_a_process_that_does_not_answer_is_reported() -> None:
    assert probe(ProcessEntry("any", 1, 0, free_port())) == "does not answer"
    assert probe(ProcessEntry("any", 1)) == "running"
