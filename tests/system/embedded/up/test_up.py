"""`weir up` starts, stores an event, stops, starts again, and ends all its processes when killed."""

import json
import signal
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.running import RunningProcess, bare_environ, free_port, start_process, wait_until
from weir.embedded.ports import is_free

START_SECONDS = 120
PORTS = ("WEIR_GATEWAY_PORT", "WEIR_CLICKHOUSE_PORT", "WEIR_KAFKA_PORT")
SERVICES = {
    *("kafka", "warehouse", "gateway", "dedup", "identity", "rates", "sink", "eraser", "audit"),
}


@dataclass
class Terminal:
    """A folder and its ports, and `weir up` on them."""

    folder: Path
    ports: dict[str, str]

    def begin(self, log: str) -> RunningProcess:
        """Started, and no more, on return."""
        environ = bare_environ(
            WEIR_DATA_DIR=str(self.folder),
            WEIR_METRICS_BASE_PORT="0",
            WEIR_DEDUP_INSTANCES="2",
            **self.ports,
        )
        command = [sys.executable, "-m", "weir.cli.main", "up"]
        return start_process(command, self.folder / log, environ)

    def up(self, log: str) -> RunningProcess:
        """Everything is ready on return."""
        weir = self.begin(log)

        def is_up() -> bool:
            assert weir.running, weir.said()
            return "Weir is up" in weir.said()

        try:
            wait_until(is_up, START_SECONDS, "weir up")
        except BaseException:
            weir.kill()
            raise
        return weir

    def children(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = json.loads((self.folder / "up.json").read_text())
        return entries

    def post(self, event: str) -> None:
        """Send an event; the same one again is a repeat."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports['WEIR_GATEWAY_PORT']}/v1/events",
            json.dumps({"event": event, "id": event, "user_id": "ada"}).encode(),
            {"Authorization": "Bearer demo-write-key", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 202

    def stored(self) -> list[str]:
        return self.ask("SELECT event FROM weir.events ORDER BY received_at")

    def ask(self, sql: str) -> list[str]:
        port = self.ports["WEIR_CLICKHOUSE_PORT"]
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/", f"{sql} FORMAT TSV".encode())
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return str(answer.read().decode()).split()


def processes_of(weir: RunningProcess) -> list[psutil.Process]:
    return [psutil.Process(weir.pid), *psutil.Process(weir.pid).children(recursive=True)]


def have_ended(processes: list[psutil.Process]) -> bool:
    """Gone, or zombies that whoever inherited them has yet to reap."""
    return not any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes
    )


def test_weir_up_keeps_events_over_a_restart_and_leaves_no_process_behind(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, {name: str(free_port()) for name in PORTS})

    first = terminal.up("first.log")
    try:
        started = processes_of(first)
        assert {child["name"] for child in terminal.children()} == SERVICES
        slots = [child["instance"] for child in terminal.children() if child["name"] == "dedup"]
        assert sorted(slots) == [0, 1]
        terminal.post("hello")
        wait_until(lambda: terminal.stored() == ["hello"], 20, "the row")
    finally:
        code = first.stop(60)
    assert code == 0, first.said()
    assert have_ended(started)
    assert "killed" not in first.said(), first.said()
    assert not (tmp_path / "up.json").exists()

    second = terminal.up("second.log")
    try:
        started = processes_of(second)
        assert terminal.stored() == ["hello"]
        terminal.post("hello")
        wait_until(
            lambda: terminal.ask("SELECT count() FROM weir.duplicates") == ["1"], 20, "the repeat"
        )
        terminal.post("again")
        wait_until(lambda: terminal.stored() == ["hello", "again"], 20, "the second row")
        second.process.send_signal(signal.SIGKILL)
        wait_until(lambda: have_ended(started), 20, "everything to end with its supervisor")
    finally:
        second.kill()
    # a killed process is a zombie a moment before its last thread has let go of its sockets
    wait_until(
        lambda: all(is_free(int(port)) for port in terminal.ports.values()), 20, "free ports"
    )


def test_weir_up_stops_cleanly_while_it_is_starting(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, {name: str(free_port()) for name in PORTS})
    weir = terminal.begin("up.log")
    try:
        wait_until((tmp_path / "up.json").exists, 60, "the first child")
        started = processes_of(weir)
    finally:
        code = weir.stop(60)
    assert code == 0, weir.said()
    assert have_ended(started)
    assert "Weir is up" not in weir.said()
    assert "Traceback" not in weir.said()
    assert not (tmp_path / "up.json").exists()
