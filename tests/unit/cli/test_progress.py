"""Who watches a terminal sees a bar; who reads a log sees a line now and then."""

import io

from rich.console import Console
from rich.progress import Progress

from weir.cli.progress import LINE_SECONDS, CommandProgress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_into_a_log_goes_a_line_now_and_then() -> None:
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


def test_on_a_terminal_there_is_a_bar_and_no_line() -> None:
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
