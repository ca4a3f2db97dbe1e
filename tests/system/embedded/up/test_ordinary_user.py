"""Weir runs as an ordinary user in a folder others could read, with JSON logs, as in the image.

Run by root, it gives up root's rights first; files of the interpreter stay readable, which may be
root's, but nothing can be written that this user may not write.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.running import RunningProcess, bare_environ, free_port, start_process, wait_until
from weir.embedded.kafka.kafka_download import cache_root

NOBODY = 65_534
PORTS = ("GATEWAY", "CLICKHOUSE", "KAFKA")


@pytest.fixture
def folder() -> Iterator[Path]:
    """As an earlier version, or somebody by hand, has left it."""
    above = Path(tempfile.mkdtemp())
    above.chmod(0o755)
    folder = above / "data"
    folder.mkdir()
    (folder / "old.log").write_text("x")
    (folder / "old.log").chmod(0o644)
    folder.chmod(0o755)
    if os.geteuid() == 0:
        for path in (folder, folder / "old.log"):
            os.chown(path, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(above)


def as_ordinary_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is not there, by which root becomes an ordinary user")
    read = "+dac_read_search"
    who = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command = [setpriv, *who, f"--inh-caps={read}", f"--ambient-caps={read}"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this root may not become another user")
    return command


@pytest.fixture
def weir(folder: Path, tmp_path: Path) -> Iterator[tuple[RunningProcess, dict[str, str]]]:
    ports = {f"WEIR_{name}_PORT": str(free_port()) for name in PORTS}
    environ = bare_environ(
        WEIR_DATA_DIR=str(folder),
        WEIR_METRICS_BASE_PORT="0",
        WEIR_LOG_FORMAT="json",
        XDG_CACHE_HOME=str(cache_root().parent),
        PYTHONDONTWRITEBYTECODE="1",
        **ports,
    )
    command = [*as_ordinary_user(), sys.executable, "-m", "weir.cli.main", "up"]
    running = start_process(command, tmp_path / "up.log", environ)

    def is_up() -> bool:
        assert running.running, running.said()
        return "Weir is up" in running.said()

    try:
        wait_until(is_up, 120, "weir up")
        yield running, ports
    finally:
        running.kill()


def test_weir_runs_as_ordinary_user_with_private_files_and_json_logs(
    weir: tuple[RunningProcess, dict[str, str]], folder: Path
) -> None:
    running, ports = weir
    everything = [
        psutil.Process(running.pid),
        *psutil.Process(running.pid).children(recursive=True),
    ]
    assert {process.uids().effective for process in everything} == {
        NOBODY if os.geteuid() == 0 else os.geteuid()
    }
    listening = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in everything
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}

    request = urllib.request.Request(
        f"http://127.0.0.1:{ports['WEIR_GATEWAY_PORT']}/v1/events",
        json.dumps({"event": "hello", "user_id": "ada"}).encode(),
        {"Authorization": "Bearer demo-write-key"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 202
    wait_until(lambda: stored(ports) == "1", 60, "the row")

    assert running.stop(90) == 0, running.said()
    wait_until(lambda: not any(map(psutil.pid_exists, (p.pid for p in everything))), 30, "the end")
    others = [
        path
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink() and path.lstat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    ]
    assert others == []
    assert "files and folders are now private to the owner" in running.said()
    logs = [running.log, *(folder / "logs").glob("*.log")]
    assert len(logs) == 10
    for log in logs:
        lines = log.read_text().splitlines()
        assert lines, log
        for line in lines:
            assert isinstance(json.loads(line), dict), (log, line)


def stored(ports: dict[str, str]) -> str:
    query = "query=SELECT+count()+FROM+weir.events"
    address = f"http://127.0.0.1:{ports['WEIR_CLICKHOUSE_PORT']}/?{query}"
    with urllib.request.urlopen(address, timeout=30) as answer:
        return str(answer.read().decode().strip())
