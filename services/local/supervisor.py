"""Keeps a set of processes running, and ends all of them, in order, when it ends."""

import asyncio
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from services.local.children import (
    Child,
    ChildLostError,
    ChildSpec,
    Guard,
    RestartPolicy,
    last_lines,
    write_children,
)
from services.local.readiness import is_ready

READY_POLL_SECONDS = 0.05
LOG_CHECK_SECONDS = 10.0
MIB = 1024 * 1024


class Supervisor:
    """Starts children, starts them again when they die, stops them by tier.

    `say` gets what an operator should know, one line each. `failed` is done as soon as a child
    cannot be kept running; its exception is the `ChildLostError`.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        policy: RestartPolicy | None = None,
        log_bytes: int = 16 * MIB,
    ) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._logs = folder / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._up_file = folder / "up.json"
        self._say = say
        self._policy = policy or RestartPolicy()
        self._log_bytes = log_bytes
        self._guard = Guard()
        self._children: dict[str, Child] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._turning = asyncio.create_task(self._turn_logs())

    @property
    def children(self) -> list[Child]:
        return list(self._children.values())

    async def start(self, spec: ChildSpec) -> Child:
        """Running and ready on return. `ChildLostError` if it does not get there."""
        child = Child(spec, self._logs / f"{spec.label}.log", self._policy, self._guard, self._say)
        child.on_start = self._write_children
        self._children[spec.label] = child
        run = asyncio.create_task(child.run())
        self._runs[spec.label] = run
        run.add_done_callback(self._settle)
        try:
            async with asyncio.timeout(spec.start_seconds):
                while not (child.pid and await is_ready(spec.ready)):
                    if run.done():
                        run.result()  # raises what ended it
                        raise ChildLostError(f"{spec.label} was stopped while it started.")
                    await asyncio.sleep(READY_POLL_SECONDS)
        except TimeoutError:
            raise ChildLostError(
                f"{spec.label} was not ready after {spec.start_seconds:g} s. It said last "
                f"({child.log}):\n{last_lines(child.log)}"
            ) from None
        child.was_ready = True
        return child

    async def stop(self) -> None:
        """Everything has ended on return: highest tier first, each tier at once."""
        try:
            for tier in sorted({child.spec.tier for child in self.children}, reverse=True):
                await self._stop_tier(child for child in self.children if child.spec.tier == tier)
        finally:
            self._turning.cancel()
            for child in self.children:
                child.kill()
            self._guard.close()
            self._up_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Every child gets SIGKILL now; `stop()` then returns soon."""
        for child in self.children:
            child.kill()

    async def _stop_tier(self, children: Iterable[Child]) -> None:
        tier = list(children)
        await asyncio.gather(*(child.stop() for child in tier))
        runs = [self._runs[child.spec.label] for child in tier]
        await asyncio.gather(*runs, return_exceptions=True)

    def _settle(self, run: asyncio.Task[None]) -> None:
        fault = None if run.cancelled() else run.exception()
        if fault is not None and not self.failed.done():
            self.failed.set_exception(fault)
            self.failed.exception()  # seen: whoever waits for it is told, nobody has to

    def _write_children(self) -> None:
        write_children(self._up_file, self.children)

    async def _turn_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_SECONDS)
            for child in self.children:
                turn_log(child.log, self._log_bytes)


def turn_log(log: Path, most_bytes: int) -> None:
    """A log above the size starts again empty, its text kept as `.1`: at most twice the size on disk.

    The process keeps writing to the file it has open (for appending), so the file is emptied and
    not renamed; what is written between the copy and that is lost.
    """
    with suppress(FileNotFoundError):
        if log.stat().st_size > most_bytes:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            with log.open("r+b") as emptied:
                emptied.truncate(0)
