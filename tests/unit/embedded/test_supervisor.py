"""The supervisor starts, restarts and stops real child processes with real signals."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.support.running import start_process, wait_until
from weir.embedded.ports import free_port
from weir.embedded.up.disk import Disk
from weir.embedded.up.processes import ChildLostError, ChildSpec, RestartPolicy
from weir.embedded.up.supervisor import Supervisor, turn_log

QUICK = RestartPolicy(first_seconds=0.01, longest_seconds=0.05, room_poll_seconds=0.01)

# Prints what it does, notes its end in a file, and waits for SIGTERM.
STAYS = """
import signal, sys
def end(*_):
    with open(sys.argv[1], "a") as ended:
        ended.write(sys.argv[2] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("here", flush=True)
while True:
    signal.pause()
"""
# Ends with code 3 for the first N starts, then stays.
DIES = """
import pathlib, signal, sys
starts = pathlib.Path(sys.argv[1])
count = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (count + 1))
print("start", count, flush=True)
if count < int(sys.argv[2]):
    sys.exit(3)
signal.pause()
"""
# Lives while the file is there: a test ends it by removing the file.
LEANS = """
import pathlib, sys, time
while pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
print("nothing to lean on", flush=True)
sys.exit(4)
"""
STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
while True:
    signal.pause()
"""
SERVES = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Answer.asked += 1
        self.send_response(200 if Answer.asked > 2 else 503)
        self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
ORPHANS = """
import asyncio, pathlib, sys
from weir.embedded.up.processes import ChildSpec
from weir.embedded.up.supervisor import Supervisor
async def main():
    supervisor = Supervisor(pathlib.Path(sys.argv[1]), print)
    sleeper = (sys.executable, "-c", "import signal; signal.pause()")
    child = await supervisor.start(ChildSpec("sleeper", "", sleeper))
    print("child", child.pid, flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


class Supervised:
    """A supervisor with what it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.free = 1 << 40
        disk = Disk(folder, 64 << 20, lambda folder: self.free)
        self.supervisor = Supervisor(folder, self.said.append, QUICK, disk=disk)

    def spec(self, name: str, program: str, *arguments: object, **more: object) -> ChildSpec:
        command = (sys.executable, "-c", program, *map(str, arguments))
        return ChildSpec(name, name, command, **more)  # type: ignore[arg-type]

    def log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    async def until_said(self, text: str, name: str) -> None:
        async with asyncio.timeout(20):
            while text not in self.log(name).read_text():
                await asyncio.sleep(0.01)

    async def until(self, words: str) -> str:
        """What was said, as soon as these words are in it."""
        async with asyncio.timeout(20):
            while not (found := [said for said in self.said if words in said]):
                await asyncio.sleep(0.01)
        return found[0]


@pytest.fixture
async def supervised(tmp_path: Path) -> AsyncIterator[Supervised]:
    one = Supervised(tmp_path)
    yield one
    await one.supervisor.stop()


async def test_stop_ends_children_tier_by_tier_and_removes_up_json(supervised: Supervised) -> None:
    ended = supervised.folder / "ended"
    supervisor = supervised.supervisor
    pids = []
    for name, tier in (("broker", 1), ("worker", 2), ("gateway", 3)):
        child = await supervisor.start(supervised.spec(name, STAYS, ended, name, tier=tier))
        await supervised.until_said("here", name)
        pids.append(child.pid)
    assert [entry["name"] for entry in up_file(supervised)] == ["broker", "worker", "gateway"]
    assert [entry["pid"] for entry in up_file(supervised)] == pids

    await supervisor.stop()

    assert ended.read_text().split() == ["gateway", "worker", "broker"]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not (supervised.folder / "up.json").exists()
    assert supervised.said == []


def up_file(supervised: Supervised) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = json.loads((supervised.folder / "up.json").read_text())
    return entries


async def test_a_child_that_dies_is_restarted_and_reported(supervised: Supervised) -> None:
    prop = supervised.folder / "prop"
    prop.touch()
    child = await supervised.supervisor.start(supervised.spec("worker", LEANS, prop))
    first = child.pid
    prop.unlink()
    async with asyncio.timeout(20):
        while not supervised.said:
            await asyncio.sleep(0.01)
        prop.touch()
        while child.pid in (0, first):
            await asyncio.sleep(0.01)
    assert supervised.said[0] == "worker ended with exit code 4; starting it again in 0.01 s"
    assert child.pid in {entry["pid"] for entry in up_file(supervised)}


async def test_a_child_that_keeps_dying_is_reported_and_other_children_keep_running(
    supervised: Supervised,
) -> None:
    prop = supervised.folder / "prop"
    prop.touch()
    other = await supervised.supervisor.start(supervised.spec("other", STAYS, "/dev/null", ""))
    child = await supervised.supervisor.start(supervised.spec("worker", LEANS, prop))
    pid = other.pid
    prop.unlink()
    said = await supervised.until("5 times in a row")
    assert "worker ended with exit code 4, 5 times in a row. It said last" in said
    assert "    nothing to lean on" in said
    prop.touch()
    async with asyncio.timeout(20):
        while not child.pid:
            await asyncio.sleep(0.01)
    assert other.pid == pid
    assert not supervised.supervisor.failed.done()


async def test_a_child_that_dies_on_a_full_disk_is_restarted_when_there_is_room(
    supervised: Supervised,
) -> None:
    prop = supervised.folder / "prop"
    prop.touch()
    child = await supervised.supervisor.start(supervised.spec("worker", LEANS, prop))
    supervised.free = 3 << 20
    prop.unlink()
    text = await supervised.until("worker ended with exit code 4")
    assert (
        "is full (3 MiB left, 64 MiB needed); it is started again as soon as there is room" in text
    )
    log = supervised.log("worker").read_text()
    assert child.waits_for_room
    prop.touch()
    supervised.free = 1 << 40
    await supervised.until("there is room again: starting worker")
    async with asyncio.timeout(20):
        while not child.pid:
            await asyncio.sleep(0.01)
    assert supervised.log("worker").read_text() == log
    assert not any("starting it again" in said for said in supervised.said)


async def test_stop_works_while_a_child_waits_for_disk_space(supervised: Supervised) -> None:
    prop = supervised.folder / "prop"
    prop.touch()
    child = await supervised.supervisor.start(supervised.spec("worker", LEANS, prop))
    supervised.free = 0
    prop.unlink()  # not before: it would die too often while there is room
    await supervised.until("is full")
    async with asyncio.timeout(20):
        await supervised.supervisor.stop()
    assert child.pid == 0


async def test_a_full_disk_is_reported_while_all_children_run(supervised: Supervised) -> None:
    supervised.free = 0
    assert "events are not accepted or not stored" in await supervised.until("is full")
    supervised.free = 1 << 40
    await supervised.until("there is room again on the disk")
    assert len(supervised.said) == 2


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (
            "import os, sys; sys.stdout.buffer.write(b'\\xff\\x00[red]\\x1b[31m' * 9000); sys.exit(7)",
            "exit code 7",
        ),
        ("import os; os.kill(os.getpid(), 40)", "signal 40"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import os; os.close(1); os.close(2); os._exit(255)", "exit code 255"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
    ],
)
async def test_other_children_keep_running_however_a_child_dies(
    supervised: Supervised, program: str, words: str
) -> None:
    other = await supervised.supervisor.start(supervised.spec("other", STAYS, "/dev/null", ""))
    pid = other.pid
    with pytest.raises(ChildLostError, match=words) as lost:
        await supervised.supervisor.start(
            supervised.spec("worker", program, ready="http://127.0.0.1:1/readyz")
        )
    assert "\x1b" not in str(lost.value)
    assert other.pid == pid


async def test_a_missing_program_raises_child_lost_error(supervised: Supervised) -> None:
    spec = ChildSpec("worker", "worker", (str(supervised.folder / "none"),))
    with pytest.raises(ChildLostError, match=r"could not be started \(No such file"):
        await supervised.supervisor.start(spec)


async def test_a_child_that_dies_before_it_was_ready_is_given_up_after_2_starts(
    supervised: Supervised,
) -> None:
    spec = supervised.spec(
        "worker", DIES, supervised.folder / "starts", 99, ready="http://127.0.0.1:1/readyz"
    )
    with pytest.raises(ChildLostError, match="2 times in a row"):
        await supervised.supervisor.start(spec)
    assert (supervised.folder / "starts").read_text() == "xx"


async def test_a_killed_child_is_reported_with_its_signal(supervised: Supervised) -> None:
    ended = supervised.folder / "ended"
    child = await supervised.supervisor.start(supervised.spec("worker", STAYS, ended, "worker"))
    psutil.Process(child.pid).send_signal(signal.SIGKILL)
    async with asyncio.timeout(20):
        while not supervised.said:
            await asyncio.sleep(0.01)
    assert supervised.said[0].startswith("worker was ended by SIGKILL; starting it again")


async def test_a_child_is_ready_when_its_address_answers_200(supervised: Supervised) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}/readyz"
    child = await supervised.supervisor.start(
        supervised.spec("gateway", SERVES, port, ready=address)
    )
    assert child.was_ready


async def test_a_child_that_is_not_ready_in_time_raises_child_lost_error(
    supervised: Supervised,
) -> None:
    spec = supervised.spec(
        "worker", STAYS, "/dev/null", "", ready="http://127.0.0.1:1/", start_seconds=1
    )
    with pytest.raises(ChildLostError, match="was not ready after 1 s"):
        await supervised.supervisor.start(spec)


async def test_a_child_that_ignores_sigterm_is_killed_with_its_children(
    supervised: Supervised,
) -> None:
    child = await supervised.supervisor.start(
        supervised.spec("worker", STUBBORN, grace_seconds=0.2)
    )
    await supervised.until_said("\n", "worker")
    grandchild = int(supervised.log("worker").read_text())
    pid = child.pid
    await supervised.supervisor.stop()
    assert supervised.said == ["worker did not stop in 0.2 s: killed"]
    wait_until(lambda: has_ended(pid) and has_ended(grandchild), 20, "both to end")


async def test_each_instance_has_its_own_log_and_instance_number(supervised: Supervised) -> None:
    for slot in range(2):
        spec = supervised.spec("dedup", STAYS, "/dev/null", "", instance=slot)
        await supervised.supervisor.start(spec)
    assert [entry["instance"] for entry in up_file(supervised)] == [0, 1]
    assert supervised.log("dedup").exists()
    assert supervised.log("dedup-1").exists()


async def test_stop_works_while_a_child_is_starting(supervised: Supervised) -> None:
    spec = supervised.spec("worker", STAYS, "/dev/null", "", ready="http://127.0.0.1:1/")
    starting = asyncio.create_task(supervised.supervisor.start(spec))
    await asyncio.sleep(0)  # it has begun, nothing more
    starting.cancel()
    await supervised.supervisor.stop()
    assert [child.pid for child in supervised.supervisor.children] == [0]


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    running = start_process([sys.executable, "-c", ORPHANS, str(tmp_path)], tmp_path / "log")
    try:
        wait_until(lambda: "child" in running.said(), 20, "the child")
        child = int(running.said().split()[1])
        assert psutil.pid_exists(child)
    finally:
        running.kill()
    wait_until(lambda: has_ended(child), 20, "the child to end")


def has_ended(pid: int) -> bool:
    """Gone, or a zombie that nobody reaps: in a container the first process may not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_log_above_its_size_limit_is_rotated(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * 10)
        turn_log(log, 100)
        assert log.read_bytes() == b"old\n" * 10
        turn_log(log, 10)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "worker.log.1").read_bytes() == b"d\nold\nold\n"


def test_restart_pauses_double_up_to_the_longest() -> None:
    policy = RestartPolicy(first_seconds=0.5, longest_seconds=30)
    assert [policy.pause(deaths) for deaths in (1, 2, 3, 7, 99)] == [0.5, 1, 2, 30, 30]
