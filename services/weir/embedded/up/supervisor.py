"""Process supervisor: keeps a set of child processes running, and stops them in order when it ends."""

import asyncio
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from weir.embedded.readiness import is_ready
from weir.embedded.up.disk import Disk
from weir.embedded.up.processes import (
    Child,
    ChildLostError,
    ChildSpec,
    Guard,
    RestartPolicy,
    last_lines,
    write_children,
)

READY_POLL_SECONDS = 0.05
LOOK_SECONDS = 2.0
MIB = 1024 * 1024


class Supervisor:
    """Starts children, restarts them when they die, and stops them by tier.

    `say` gets messages for the operator. `failed` gets a `ChildLostError` as soon as a child that was
    never ready has ended for good. A child that was ready once is restarted for ever, while the others
    continue.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        policy: RestartPolicy | None = None,
        log_bytes: int = 16 * MIB,
        disk: Disk | None = None,
    ) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._logs = folder / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._up_file = folder / "up.json"
        self._say = say
        self._policy = policy or RestartPolicy()
        self._log_bytes = log_bytes
        self._disk = disk or Disk(folder)
        self._guard = Guard()
        self._children: dict[str, Child] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._looking = asyncio.create_task(self._look_at_disk())

    @property
    def children(self) -> list[Child]:
        return list(self._children.values())

    async def start(self, spec: ChildSpec) -> Child:
        """Start a child; it is running and ready on return. `ChildLostError` if it does not become ready."""
        log = self._logs / f"{spec.label}.log"
        child = Child(spec, log, self._policy, self._guard, self._say, self._disk)
        child.on_start = self._write_children
        self._children[spec.label] = child
        run = asyncio.create_task(child.run())
        self._runs[spec.label] = run
        run.add_done_callback(self._note_failure)
        try:
            async with asyncio.timeout(spec.start_seconds) as deadline:
                while not (child.pid and await is_ready(spec.ready)):
                    if run.done():
                        run.result()  # raises the error that ended it
                        raise ChildLostError(f"{spec.label} was stopped while it started.")
                    if child.waits_for_room:
                        deadline.reschedule(asyncio.get_running_loop().time() + spec.start_seconds)
                    await asyncio.sleep(READY_POLL_SECONDS)
        except TimeoutError:
            raise ChildLostError(
                f"{spec.label} was not ready after {spec.start_seconds:g} s. It said last "
                f"({child.log}):\n{last_lines(child.log)}"
            ) from None
        child.was_ready = True
        return child

    async def stop(self) -> None:
        """Stop all children: highest tier first, each tier at once. All have ended on return."""
        try:
            for tier in sorted({child.spec.tier for child in self.children}, reverse=True):
                await self._stop_tier(child for child in self.children if child.spec.tier == tier)
        finally:
            self._looking.cancel()
            for child in self.children:
                child.kill()
            self._guard.close()
            self._up_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Send SIGKILL to every child now; `stop()` then returns soon."""
        for child in self.children:
            child.kill()

    async def _stop_tier(self, children: Iterable[Child]) -> None:
        tier = list(children)
        await asyncio.gather(*(child.stop() for child in tier))
        runs = [self._runs[child.spec.label] for child in tier]
        await asyncio.gather(*runs, return_exceptions=True)

    def _note_failure(self, run: asyncio.Task[None]) -> None:
        fault = None if run.cancelled() else run.exception()
        if fault is not None and not self.failed.done():
            self.failed.set_exception(fault)
            self.failed.exception()  # marked as retrieved: nobody has to await it

    def _write_children(self) -> None:
        write_children(self._up_file, self.children)

    async def _look_at_disk(self) -> None:
        """Keep logs small, and report a full disk, even if no child has died because of it."""
        was_full = False
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for child in self.children:
                turn_log(child.log, self._log_bytes)
            full = self._disk.why_full()
            if full and not was_full:
                self._say(
                    f"{full}: events are not accepted or not stored until there is room; then "
                    "everything goes on by itself"
                )
            elif was_full and not full:
                self._say(f"there is room again on the disk that holds {self._disk.folder}")
                self._write_children()
            was_full = bool(full)


def turn_log(log: Path, most_bytes: int) -> None:
    """Empty a log above `most_bytes` and keep its end as `.1`: at most twice that size in total.

    The process keeps the file open for appending, so the file is truncated, not renamed. Text written
    between the copy and the truncation is lost. On a full disk nothing is kept.
    """
    older = log.with_suffix(".log.1")
    try:
        size = log.stat().st_size
        if size <= most_bytes:
            return
        with log.open("r+b") as turned:
            turned.seek(size - most_bytes)
            try:
                with older.open("wb") as kept:
                    shutil.copyfileobj(turned, kept)
            except OSError:
                older.unlink(missing_ok=True)
            turned.truncate(0)
    except OSError:
        return  # missing or not writable: checked again soon
