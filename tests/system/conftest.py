"""Fixtures of the system tests: HTTP in, ClickHouse out."""

from collections.abc import Iterator

import pytest

from tests.support.running_weir import RunningWeir, start_weir
from tests.support.webhooks import STAND_IN_NOTE, WEBHOOKS


@pytest.fixture(scope="session")
def weir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWeir]:
    """One Weir for the session. Tests share it: use a source of your own."""
    running = start_weir(tmp_path_factory.mktemp("weir"))
    try:
        yield running
    finally:
        assert running.stop() == 0, running.process.said()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says so when the real deliveries were not there."""
    if not WEBHOOKS.exists():
        terminalreporter.write_line(STAND_IN_NOTE)
