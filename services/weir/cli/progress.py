"""Progress of commands on standard error: a bar on a terminal, else a plain line every few seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from weir.cli.base import notes

LINE_SECONDS = 5.0  # between two plain lines; a shorter command prints none


class CommandProgress:
    """The progress of one command: what it is doing, and how much of it is done."""

    def __init__(
        self,
        console: Console,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._progress = progress
        self._task = progress.add_task("", total=None)
        self._clock = clock
        self._line_at = clock()
        self._doing = ""
        self._done = 0
        self._total: int | None = None

    def show_step(self, doing: str) -> None:
        """Show what the command is doing from now on."""
        self._doing = doing
        self._show()

    def begin(self, total: int) -> None:
        """Start counting to `total`, with nothing done yet."""
        self._done, self._total = 0, total
        self._show()

    def advance(self, more: int = 1) -> None:
        """Count `more` as done."""
        self.reach(self._done + more)

    def reach(self, done: int) -> None:
        """Set how much is done in total."""
        self._done = done
        self._show()

    def _show(self) -> None:
        self._progress.update(
            self._task, description=self._doing, completed=self._done, total=self._total
        )
        now = self._clock()
        if self._console.is_terminal or now - self._line_at < LINE_SECONDS:
            return
        self._line_at = now
        count = f"{self._done:,} of {self._total:,} done" if self._total is not None else ""
        text = ": ".join(part for part in (self._doing, count) if part)
        if text:
            self._console.print(text, markup=False)


@contextmanager
def reporting() -> Iterator[CommandProgress]:
    """Yield a progress report, which disappears from the terminal when the block ends."""
    console = notes()
    columns = (
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        yield CommandProgress(console, progress)
