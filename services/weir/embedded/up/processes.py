"""A child process of `weir up`: its start, watch, restart after a death, and stop."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from weir.embedded.up import reaper as guard
from weir.embedded.up.disk import Disk

LAST_LINES = 15
TAIL_BYTES = 16_384


@dataclass(frozen=True)
class ChildSpec:
    """A program to keep running. Plain values, so that tests can supervise programs of their own."""

    name: str
    title: str
    arguments: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)  # added to the supervisor's
    ready: str = ""  # an address for `is_ready`
    tier: int = 0  # higher tiers are stopped first
    instance: int = 0
    metrics_port: int = 0
    grace_seconds: float = 15.0  # between SIGTERM and SIGKILL
    start_seconds: float = 90.0

    @property
    def label(self) -> str:
        return f"{self.name}-{self.instance}" if self.instance else self.name


@dataclass(frozen=True)
class RestartPolicy:
    """How dead children are restarted: after a pause that doubles, as long as the supervisor runs.

    Only a child that was never ready is given up: it cannot run on this machine.
    """

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    within_seconds: float = 60.0  # older deaths do not count
    show_after: int = 5  # deaths, after which its last lines are shown, too
    give_up_unready: int = 2  # deaths
    room_poll_seconds: float = 1.0

    def pause(self, deaths: int) -> float:
        return float(min(self.first_seconds * 2 ** (deaths - 1), self.longest_seconds))


class ChildLostError(Exception):
    """A child cannot be kept running; the text names it and shows its last lines."""


class Guard:
    """Kills the children if the supervisor is killed and cannot stop them itself."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(guard.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self, pid: int) -> None:
        self._send(f"+{pid}\n")

    def release(self, pid: int) -> None:
        self._send(f"-{pid}\n")

    def close(self) -> None:
        """End the guard; it kills the process groups that it still watches."""
        self._pipe.close()
        self._process.wait(10)

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _send(self, line: str) -> None:
        with suppress(BrokenPipeError):  # the guard was killed: continue without it
            self._pipe.write(line.encode())
            self._pipe.flush()


class Child:
    """One program, kept running from `run()` until `stop()`."""

    def __init__(
        self,
        spec: ChildSpec,
        log: Path,
        policy: RestartPolicy,
        guard: Guard,
        say: Callable[[str], None],
        disk: Disk,
    ) -> None:
        self.spec = spec
        self.log = log
        self.was_ready = False
        self.on_start: Callable[[], None] = lambda: None
        self._policy = policy
        self._guard = guard
        self._say = say
        self._disk = disk
        self.waits_for_room = False
        self._deaths: deque[float] = deque()
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Return the process id while the program runs, else 0."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    async def run(self) -> None:
        """Keep the program running until stopped. `ChildLostError` if it keeps dying and was never ready."""
        while not self._stopping.is_set():
            how = await self._run_once()
            if self._stopping.is_set():
                return
            if full := self._disk.why_full():
                await self._wait_for_room(f"{self.spec.label} {how}: {full}")
                continue
            pause = self._pause_after(how)
            self._say(f"{self.spec.label} {how}; starting it again in {pause:g} s")
            await self._pause(pause)

    async def _run_once(self) -> str:
        """Start the program and wait until it ends; return in words how it ended."""
        try:
            process = await self._start()
        except OSError as fault:
            return f"could not be started ({fault.strerror})"
        if self._stopping.is_set():  # told to stop while it was being started
            _end_group(process.pid)
        code = await process.wait()
        _end_group(process.pid)
        self._guard.release(process.pid)
        return how_it_ended(code)

    async def _wait_for_room(self, why: str) -> None:
        """Wait until the disk has room. The death does not count against the child, and the others continue."""
        self._say(f"{why}; it is started again as soon as there is room")
        self.waits_for_room = True
        while self._disk.why_full() and not self._stopping.is_set():
            await self._pause(self._policy.room_poll_seconds)
        self.waits_for_room = False
        self._deaths.clear()
        if not self._stopping.is_set():
            self._say(f"there is room again: starting {self.spec.label}")

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def stop(self) -> None:
        """Send SIGTERM, give it time to drain, then send SIGKILL. `run()` kills the rest of its process group."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.spec.grace_seconds)
        except TimeoutError:
            self._say(f"{self.spec.label} did not stop in {self.spec.grace_seconds:g} s: killed")
            _end_group(process.pid)
            await process.wait()

    def kill(self) -> None:
        """Send SIGKILL to the process group at once."""
        self._stopping.set()
        if self.pid:
            _end_group(self.pid)

    async def _start(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.arguments,
                env={**os.environ, **self.spec.environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the supervisor only
            )
        self._guard.watch(self._process.pid)
        self.on_start()
        return self._process

    def _pause_after(self, how: str) -> float:
        policy, now = self._policy, time.monotonic()
        self._deaths.append(now)
        while now - self._deaths[0] > policy.within_seconds:
            self._deaths.popleft()
        deaths = len(self._deaths)
        times = f", {deaths} times in a row" if deaths > 1 else ""
        text = f"{self.spec.label} {how}{times}. It said last ({self.log}):"
        if not self.was_ready and deaths >= policy.give_up_unready:
            raise ChildLostError(f"{text}\n{last_lines(self.log)}")
        if deaths == policy.show_after:
            self._say(f"{text}\n{last_lines(self.log)}")
        return policy.pause(deaths)

    def described(self) -> dict[str, object]:
        """Return the child's entry in `up.json`."""
        return {
            "name": self.spec.name,
            "instance": self.spec.instance,
            "pid": self.pid,
            "metrics_port": self.spec.metrics_port,
            "scheme": urlsplit(self.spec.ready).scheme,
            "log": str(self.log),
        }


def write_children(path: Path, children: list[Child]) -> None:
    """Write the present children to the file; readers see either the old list or the new one.

    On a full disk the file stays as it was.
    """
    fresh = path.with_suffix(".new")
    text = json.dumps([child.described() for child in children], indent=1) + "\n"
    with suppress(OSError):
        fresh.write_text(text)
        fresh.replace(path)


def how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"was ended by signal {-code}"


def last_lines(log: Path, count: int = LAST_LINES) -> str:
    """Return the last lines of a log, indented, with terminal control characters replaced."""
    try:
        with log.open("rb") as lines:
            lines.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = lines.read().decode(errors="replace")
    except OSError as fault:
        text = f"(its log cannot be read: {fault.strerror})"
    plain = (
        "".join(c if c.isprintable() else "\ufffd" for c in line) for line in text.splitlines()
    )
    return "\n".join(f"    {line}" for line in list(plain)[-count:]) or "    (nothing)"


def _end_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS: a zombie's group may not be killed
        os.killpg(pid, signal.SIGKILL)
