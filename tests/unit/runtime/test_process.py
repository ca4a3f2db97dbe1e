"""A process keeps its files private to its owner and logs only JSON lines when told to log JSON."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.running import bare_environ
from weir.runtime.json_log_lines import as_json
from weir.runtime.private_files import keep_private

BEGINS = """
import asyncio, logging, os, sys, threading, warnings
from weir.runtime import logs, process
process.begin("demo")
log = logs.get("demo")
"""
SAYS = [
    ("print('printed')", "printed"),
    ("print('to stderr', file=sys.stderr)", "to stderr"),
    ("os.write(2, b'half a line, '); os.write(2, b'the rest\\n')", "half a line, the rest"),
    ("os.write(1, b'\\xff\\xfe no text\\n')", "no text"),
    ("print('a\\tb \\x1b[31m \"quoted\"')", '"quoted"'),
    ("log.warning('structured', at=os)", "structured"),
    ("warnings.warn('a warning')", "a warning"),
    (
        "logging.getLogger('aiohttp.server').error('of a library', exc_info=ValueError('why'))",
        "why",
    ),
    ("t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", "ZeroDivisionError"),
    (
        "from confluent_kafka import Producer\n"
        "failed = threading.Event()\n"
        "options = {'bootstrap.servers': '127.0.0.1:1', 'error_cb': lambda _: failed.set()}\n"
        "producer = Producer(options)\n"
        "while not failed.is_set(): producer.poll(0.1)\n"
        "del producer",  # it would go on saying so while the process ends
        "Connection refused",
    ),
    (
        "async def fails():\n    asyncio.get_running_loop().call_soon(lambda: 1 / 0)\n"
        "    await asyncio.sleep(0)\nasyncio.run(fails())",
        "ZeroDivisionError",
    ),
    ("class D:\n    def __del__(self): raise ValueError('not raised')\nD()", "not raised"),
]
ENDS = [
    ("sys.exit('last words\\nin two lines')", "in two lines", 1),
    ("raise RuntimeError('nobody caught it')", "nobody caught it", 1),
    ("os.write(2, b'no end of line'); os.abort()", "no end of line", -signal.SIGABRT),
    (
        "import faulthandler; faulthandler.enable(); faulthandler._sigsegv()",
        "Segmentation fault",
        -signal.SIGSEGV,
    ),
]


def said(program: str, **settings: str) -> tuple[int, str]:
    """The exit code, and all that was said by the process and whom it left to say it."""
    ended = subprocess.run(
        [sys.executable, "-c", BEGINS + program],
        env=bare_environ(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return ended.returncode, ended.stdout


def events(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        assert {"event", "level", "timestamp"} <= set(event), event
    return found


@pytest.mark.parametrize(("end", "words", "code"), ENDS)
def test_every_output_line_is_json_from_any_writer_and_at_any_exit(
    end: str, words: str, code: int
) -> None:
    program = "\n".join((*(line for line, _ in SAYS), end))
    ended, text = said(program, WEIR_LOG_FORMAT="json")
    lines = events(text)
    assert ended == code
    texts = ["\n".join(map(str, event.values())) for event in lines]
    for expected in (*(word for _, word in SAYS), words):
        assert any(expected in text for text in texts), expected
    (connection, *_) = [event for event in lines if "Connection refused" in event["event"]]
    assert (connection["logger"], connection["level"]) == ("librdkafka", "error")


def test_output_is_unchanged_in_text_format() -> None:
    assert said("print('printed')") == (0, "printed\n")


def test_wrong_settings_are_reported_as_json() -> None:
    for service in ("dedup", "gateway", "warehouse", "sink", "kafka", "up"):
        ended = subprocess.run(
            [sys.executable, "-m", "weir.cli.main", service],
            env=bare_environ(WEIR_LOG_FORMAT="json", WEIR_NONSENSE="1", WEIR_KAFKA_PORT="x"),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode != 0
        lines = events(ended.stdout + ended.stderr)
        assert any("WEIR_NONSENSE: no such setting" in event["event"] for event in lines)


@given(st.binary(max_size=300), st.text(max_size=20))
def test_any_line_becomes_one_json_object(line: bytes, service: str) -> None:
    written = as_json(line, service)
    assert b"\n" not in written
    assert isinstance(json.loads(written), dict) or written == line


def test_log_lines_of_the_broker_keep_their_time_and_level() -> None:
    line = b"2026-11-29T20:38:00.209Z WARN NetworkClient [NodeToController] Attempting to close"
    event = json.loads(as_json(line, "kafka"))
    assert event == {
        "service": "kafka",
        "event": "[NodeToController] Attempting to close",
        "level": "warning",
        "logger": "NetworkClient",
        "timestamp": "2026-11-29T20:38:00.209Z",
    }


def modes(folder: Path) -> set[int]:
    return {
        stat.S_IMODE(path.lstat().st_mode)
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink()
    }


def test_keep_private_closes_readable_files_to_others_and_reports_them(tmp_path: Path) -> None:
    folder, outside = tmp_path / "data", tmp_path / "outside"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "sink.log").write_text("x")
    outside.write_text("not Weir's")
    (folder / "link").symlink_to(outside)
    for path, mode in (
        (folder / "logs" / "sink.log", 0o664),
        (folder / "logs", 0o775),
        (folder, 0o755),
        (outside, 0o644),
    ):
        path.chmod(mode)
    umask = os.umask(0o022)
    try:
        warning = keep_private(folder)
        assert "3 files and folders are now private to the owner" in warning
        assert modes(folder) == {0o700, 0o600}
        assert stat.S_IMODE(outside.stat().st_mode) == 0o644
        (folder / "new").touch()
        assert modes(folder) == {0o700, 0o600}
        assert keep_private(folder) == ""
        assert keep_private(tmp_path / "a") == ""  # not every process needs one
        (tmp_path / "a" / "b").mkdir(parents=True)
        assert modes(tmp_path / "a") == {0o700}
    finally:
        os.umask(umask)


def test_keep_private_follows_a_linked_data_folder(tmp_path: Path) -> None:
    folder, link = tmp_path / "elsewhere", tmp_path / ".weir"
    folder.mkdir()
    folder.chmod(0o755)
    link.symlink_to(folder)
    umask = os.umask(0o022)
    try:
        assert "1 files and folders" in keep_private(link)
        assert keep_private(link) == ""
    finally:
        os.umask(umask)
    assert modes(folder) == {0o700}


def test_processes_sharing_an_output_write_whole_lines() -> None:
    """Every log line is one write, so two processes on one output do not mix their lines."""
    program = """
import multiprocessing
def say():
    for number in range(2000):
        log.info("line", number=number, padding="x" * 500)
processes = [multiprocessing.get_context("fork").Process(target=say) for _ in range(2)]
for one in processes: one.start()
for one in processes: one.join()
"""
    code, text = said(program, WEIR_LOG_FORMAT="json")
    assert code == 0
    assert [event["event"] for event in events(text)] == ["line"] * 4_000


AS_NOBODY = """
import os, pathlib, sys
from weir.runtime.private_files import keep_private
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(keep_private(pathlib.Path(sys.argv[1])))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_keep_private_reports_files_of_another_owner(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        (folder / "file").touch(0o644)
        command = [sys.executable, "-c", AS_NOBODY, str(folder)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    finally:
        shutil.rmtree(folder)
    assert "may read 2 files and folders" in ended.stdout
    assert "this user does not own them" in ended.stdout
