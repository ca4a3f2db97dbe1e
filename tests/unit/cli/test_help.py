"""Every command has a help text with an example."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

import weir.cli


def commands() -> Iterator[click.Command]:
    """Every command of `weir` that is a module here, groups and what they hold."""
    for found in pkgutil.iter_modules(weir.cli.__path__):
        command = getattr(import_module(f"weir.cli.{found.name}"), "command", None)
        if isinstance(command, click.Command):
            yield command
            if isinstance(command, click.Group):
                yield from command.commands.values()


@pytest.mark.parametrize("command", list(commands()), ids=lambda command: command.name)
def test_help_of_a_command_shows_an_example_in_lines_of_at_most_100(command: click.Command) -> None:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "Example:\n    weir " in result.output
    assert all(len(line) <= 100 for line in result.output.splitlines())
