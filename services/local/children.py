"""One child process of `weir up`: started, watched, started again when it dies, and told to stop."""

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

from services.local import guard

LAST_LINES = 15
TAIL_BYTES = 16_384


@dataclass(frozen=True)
class ChildSpec:
    """A program to keep running. Plain values, so that tests can supervise programs of their own."""

    name: str
    title: str
    arguments: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)  # on top of the supervisor's
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
    """A child that dies is started again after a pause that doubles, until it has died too often."""

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    give_up_after: int = 5  # deaths within `within_seconds`
    within_seconds: float = 60.0
    give_up_unready: int = 2  # deaths of a child that has never been ready: it cannot run here

    def pause(self, deaths: int) -> float:
        return float(min(self.first_seconds * 2 ** (deaths - 1), self.longest_seconds))


class ChildLostError(Exception):
    """A child cannot be kept running; the text names it and shows its last lines."""


class Guard:
    """Ends the children if the supervisor is killed in a way that it cannot answer."""

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
        self._tell(f"+{pid}\n")

    def release(self, pid: int) -> None:
        self._tell(f"-{pid}\n")

    def close(self) -> None:
        """Ends the guard; what it still watches ends too."""
        self._pipe.close()
        self._process.wait(10)

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _tell(self, line: str) -> None:
        with suppress(BrokenPipeError):  # somebody ended the guard: go on without
            self._pipe.write(line.encode())
            self._pipe.flush()


class Child:
    """One program, running from `run()` until `stop()`."""

    def __init__(
        self,
        spec: ChildSpec,
        log: Path,
        policy: RestartPolicy,
        guard: Guard,
        say: Callable[[str], None],
    ) -> None:
        self.spec = spec
        self.log = log
        self.was_ready = False
        self.on_start: Callable[[], None] = lambda: None
        self._policy = policy
        self._guard = guard
        self._say = say
        self._deaths: deque[float] = deque()
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process id while it runs, else 0."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    async def run(self) -> None:
        """Until stopped. `ChildLostError` when it dies too often."""
        while not self._stopping.is_set():
            process = await self._start()
            if self._stopping.is_set():  # told to stop while it was being started
                _end_group(process.pid)
            code = await process.wait()
            _end_group(process.pid)
            self._guard.release(process.pid)
            if self._stopping.is_set():
                return
            pause = self._pause_after(code)
            self._say(f"{self.spec.label} {how_it_ended(code)}; starting it again in {pause:g} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def stop(self) -> None:
        """SIGTERM, time to drain, then SIGKILL; nothing of its process group is left on return."""
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
        """SIGKILL to its process group, at once."""
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
                start_new_session=True,  # Ctrl-C is the supervisor's alone
            )
        self._guard.watch(self._process.pid)
        self.on_start()
        return self._process

    def _pause_after(self, code: int) -> float:
        policy, now = self._policy, time.monotonic()
        self._deaths.append(now)
        while now - self._deaths[0] > policy.within_seconds:
            self._deaths.popleft()
        limit = policy.give_up_after if self.was_ready else policy.give_up_unready
        if len(self._deaths) >= limit:
            times = f", {len(self._deaths)} times in a row" if len(self._deaths) > 1 else ""
            raise ChildLostError(
                f"{self.spec.label} {how_it_ended(code)}{times}. It said last "
                f"({self.log}):\n{last_lines(self.log)}"
            )
        return policy.pause(len(self._deaths))

    def described(self) -> dict[str, object]:
        """Its line in `up.json`."""
        return {
            "name": self.spec.name,
            "instance": self.spec.instance,
            "pid": self.pid,
            "metrics_port": self.spec.metrics_port,
            "scheme": urlsplit(self.spec.ready).scheme,
            "log": str(self.log),
        }


def write_children(path: Path, children: list[Child]) -> None:
    """The file tells of the children as they are now; readers see the old list or the new one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps([child.described() for child in children], indent=1) + "\n")
    fresh.replace(path)


def how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"


def last_lines(log: Path, count: int = LAST_LINES) -> str:
    """The end of a log, indented."""
    with log.open("rb") as lines:
        lines.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = lines.read().decode(errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-count:]) or "    (nothing)"


def _end_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS: a zombie's group is not permitted
        os.killpg(pid, signal.SIGKILL)
