"""Progress display of `weir up`: each step as it begins, how long it took, and warnings."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status

REFRESHES_PER_SECOND = 8  # few, so that the display does not slow the start


class Progress:
    """Steps on standard error: a live line on a terminal, plain lines elsewhere. Steps may overlap."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._open: dict[str, tuple[float, str]] = {}
        self._live: Status | None = None
        if console.is_terminal:
            self._live = Status(
                "", console=console, refresh_per_second=REFRESHES_PER_SECOND, spinner="dots"
            )

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show a step as running until the block ends; if it ends without an error, as done, with its seconds."""
        began = time.monotonic()
        self._open[title] = (began, "")
        if self._live is None:
            self._print(f"  {title} ...")
        else:
            self._live.start()
            self._refresh()
        try:
            yield
        except BaseException:
            self._close(title)
            raise
        self._close(title)
        self._print(f"[green]✓[/] {escape(title)}  [dim]{time.monotonic() - began:.1f} s[/]")

    def note(self, title: str, text: str) -> None:
        """Show what a running step is doing now."""
        if title not in self._open:
            return
        self._open[title] = (self._open[title][0], text)
        if self._live is None:
            self._print(f"  {escape(title)}: {escape(text)}")
        else:
            self._refresh()

    def say(self, text: str) -> None:
        """Print a line for the operator; it stays on the screen."""
        self._print(f"[yellow]![/] {escape(text)}")

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()

    def _close(self, title: str) -> None:
        self._open.pop(title, None)
        if self._open:
            self._refresh()
        else:
            self.close()

    def _refresh(self) -> None:
        if self._live is not None:
            parts = [
                f"{title}: {note}" if note else title for title, (_, note) in self._open.items()
            ]
            self._live.update(escape(" · ".join(parts)))

    def _print(self, line: str) -> None:
        self._console.print(line)
