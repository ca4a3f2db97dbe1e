"""`weir send` as a command: exit codes, the rejects file, standard input and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support.running import bare_environ, wait_until
from weir.cli.send import command

KEY = "a-key-of-the-shop"


class Peer(ThreadingHTTPServer):
    """Takes every event but those called `bad`; keeps what it took by id."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.taken: dict[str, dict[str, Any]] = {}
        self.keys: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Door(BaseHTTPRequestHandler):
    server: Peer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # the name that http.server calls
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.add(self.headers["Authorization"])
        bad = [n for n, event in enumerate(events) if event.get("event") == "bad"]
        self.server.taken |= {e["id"]: e for n, e in enumerate(events) if n not in bad}
        refusals = [
            {"index": n, "code": "bad_name", "field": "event", "message": "no"} for n in bad
        ]
        body = json.dumps({"accepted": len(events) - len(bad), "rejected": refusals}).encode()
        self.send_response(202)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def peer() -> Iterator[Peer]:
    server = Peer()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def written(folder: Path, *lines: str) -> str:
    path = folder / "events.ndjson"
    path.write_text("\n".join(lines))
    return str(path)


def test_send_exits_with_0_when_every_event_is_accepted(peer: Peer, tmp_path: Path) -> None:
    file = written(tmp_path, *(json.dumps({"event": "x", "n": n}) for n in range(1_234)))
    result = CliRunner().invoke(command, [file, "--url", peer.url, "--key", KEY, "--batch", "100"])
    assert result.exit_code == 0, result.output
    assert "1,234 accepted, 0 rejected, 0 not delivered of 1,234 events" in result.stdout
    assert sorted(event["n"] for event in peer.taken.values()) == list(range(1_234))
    assert peer.keys == {f"Bearer {KEY}"}


def test_send_takes_write_key_and_gateway_url_from_the_environment(
    peer: Peer, tmp_path: Path
) -> None:
    result = CliRunner().invoke(
        command,
        [written(tmp_path, '{"event":"x"}')],
        env={"WEIR_WRITE_KEY": KEY, "WEIR_GATEWAY_URL": peer.url},
    )
    assert result.exit_code == 0, result.output
    assert peer.keys == {f"Bearer {KEY}"}


def test_send_exits_with_1_and_writes_rejected_events_to_the_rejects_file(
    peer: Peer, tmp_path: Path
) -> None:
    file = written(tmp_path, '{"id":"1","event":"x"}', "nope", '{"id":"3","event":"bad"}')
    rejects = tmp_path / "refused.ndjson"
    result = CliRunner().invoke(
        command, [file, "--url", peer.url, "--key", KEY, "--rejects", str(rejects)]
    )
    assert result.exit_code == 1
    assert "1 accepted, 2 rejected" in result.stdout
    assert "line 3: bad_name (event): no" in result.stderr
    refused = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(r["line"], r["code"], r["event"]) for r in refused] == [
        (2, "invalid_json", "nope"),
        (3, "bad_name", {"id": "3", "event": "bad"}),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.ndjson", "--key", KEY], "none.ndjson cannot be read: No such file"),
        ([__file__], "No write key: give --key, or set WEIR_WRITE_KEY."),
    ],
)
def test_send_exits_with_2_without_a_readable_file_or_a_write_key(
    arguments: list[str], expected: str
) -> None:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert expected in result.stderr


def started(peer: Peer) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "weir.cli.send", "-", "--url", peer.url],
        env=bare_environ(WEIR_WRITE_KEY=KEY),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_send_delivers_each_line_of_standard_input_at_once(peer: Peer) -> None:
    with started(peer) as sender:
        assert sender.stdin is not None
        for number in ("1", "2", "3"):
            os.write(sender.stdin.fileno(), f'{{"id":"{number}"}}\n'.encode())
            wait_until(partial(peer.taken.get, number), 20, "the event")
        stdout, _ = sender.communicate(timeout=20)
    assert sender.returncode == 0
    assert b"3 accepted, 0 rejected" in stdout


def test_ctrl_c_stops_send_and_reports_the_events_sent(peer: Peer) -> None:
    with started(peer) as sender:
        assert sender.stdin is not None
        os.write(sender.stdin.fileno(), b'{"id":"1"}\n')
        wait_until(lambda: peer.taken, 20, "the event")
        sender.send_signal(signal.SIGINT)
        sender.wait(20)
        assert sender.stdout is not None
        assert sender.stderr is not None
        assert b"1 accepted, 0 rejected, 0 not delivered of 1" in sender.stdout.read()
        assert b"Stopping" in sender.stderr.read()
    assert sender.returncode == 1
