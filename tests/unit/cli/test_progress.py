"""Progress is shown as a bar on a terminal and as an occasional line in a log."""

import io

from rich.console import Console
from rich.progress import Progress

from weir.cli.progress import LINE_SECONDS, CommandProgress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_in_a_log_is_one_line_per_interval() -> None:
    output, clock = io.StringIO(), Clock()
    console = Console(file=output)
    report = CommandProgress(console, Progress(console=console, disable=True), clock)
    report.show_step("events.resolved")
    report.begin(2_000)
    report.advance(500)
    assert output.getvalue() == ""  # it may be done before anybody asks
    for _ in range(2):
        clock.now += LINE_SECONDS
        report.advance(500)
        report.advance(1)
    assert output.getvalue().splitlines() == [
        "events.resolved: 1,000 of 2,000 done",
        "events.resolved: 1,501 of 2,000 done",
    ]


def test_progress_on_a_terminal_is_a_bar_without_lines() -> None:
    output, clock = io.StringIO(), Clock()
    console = Console(file=output, force_terminal=True, width=100)
    with Progress(console=console, auto_refresh=False) as progress:
        report = CommandProgress(console, progress, clock)
        report.show_step("events.resolved")
        report.begin(4)
        clock.now += 10 * LINE_SECONDS
        report.reach(2)
        progress.refresh()
    assert " 50%" in output.getvalue()
    assert "2 of 4 done" not in output.getvalue()
