"""`weir` offers every command, lists them without imports, and reports wrong settings clearly."""

import importlib
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from tests.support.running import bare_environ
from weir.cli.main import COMMANDS, SERVICES, cli
from weir.core.service_modules import SERVICE_MODULES
from weir.settings.catalogue import ALL_SETTINGS
from weir.settings.environment import known_variables


def weir(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "weir.cli.main", *arguments],
        env=bare_environ(**settings),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("name", [*SERVICES, *COMMANDS])
def test_every_command_has_help_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert f"Usage: cli {name}" in shown.output
    assert "Example" in shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_module_holds_a_click_command_of_its_name(name: str) -> None:
    command = importlib.import_module(COMMANDS[name][0]).command
    assert isinstance(command, click.Command)
    assert command.name == name


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_module_has_a_main_function(name: str) -> None:
    assert callable(importlib.import_module(f"{SERVICE_MODULES[name]}.__main__").main)


def test_help_lists_every_service_and_command_with_its_summary() -> None:
    shown = " ".join(CliRunner().invoke(cli, ["--help"]).output.split())
    for name, (line, _, _) in SERVICES.items():
        assert f" {name} {line}" in shown
    for name, (_, line) in COMMANDS.items():
        assert f" {name} {line}" in shown


def test_help_imports_neither_commands_nor_heavy_libraries() -> None:
    listing = (
        "import sys, weir.cli.main; sys.argv[1:] = ['--help']\n"
        "try: weir.cli.main.main()\n"
        "except SystemExit: pass\n"
        "print(*sorted(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True)
    assert "Commands:" in shown.stdout
    loaded = shown.stdout.splitlines()[-1].split()
    assert not {"confluent_kafka", "aiohttp", "rich", "chdb", "weir.cli.topics"} & set(loaded)


@pytest.mark.parametrize("command", [("topics", "list"), ("up",), ("kafka",), ("dedup",)])
def test_an_unknown_weir_variable_ends_a_command_with_exit_code_2(command: tuple[str, ...]) -> None:
    ended = weir(*command, WEIR_GATEWAY_PROT="8080")
    assert ended.returncode == 2
    assert ended.stderr == ("WEIR_GATEWAY_PROT: no such setting; `weir settings` lists them all\n")


def test_all_invalid_settings_are_reported_at_once() -> None:
    ended = weir("up", WEIR_KAFKA_PORT="x", WEIR_LOG_LEVEL="LOUD")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "WEIR_KAFKA_PORT='x': must be a whole number" in ended.stderr
    assert "WEIR_LOG_LEVEL: must be one of" in ended.stderr


def test_settings_lists_every_variable() -> None:
    shown = CliRunner().invoke(cli, ["settings", "--markdown"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    names = [line.split("`")[1] for line in shown.output.splitlines()[2:]]
    assert len(names) == len(set(names))
    assert set(names) == known_variables(ALL_SETTINGS)
    assert CliRunner().invoke(cli, ["settings"]).exit_code == 0


@pytest.mark.parametrize("command", ["gateway", "up"])
def test_ingest_rate_and_burst_are_flags_of_gateway_and_up(command: str) -> None:
    shown = CliRunner().invoke(cli, [command, "--help"])
    assert "--ingest-rate" in shown.output
    assert "--ingest-burst" in shown.output
    ended = weir(command, "--ingest-rate", "fast", "--ingest-burst", "0", WEIR_INGEST_BURST="9")
    assert ended.returncode == 2
    assert "WEIR_INGEST_RATE='fast': must be a number" in ended.stderr
    assert "WEIR_INGEST_BURST: must be at least 1, not 0" in ended.stderr


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_number_that_is_not_finite_is_rejected(number: str) -> None:
    shown = CliRunner().invoke(cli, ["audit", "--wait", number])
    assert shown.exit_code == 2
    assert "is not a finite number" in shown.output


def test_an_id_that_is_not_utf_8_is_rejected() -> None:
    ended = weir("where", os.fsdecode(b"\xff"))
    assert ended.returncode == 2, ended.stderr
    assert "ID is not UTF-8 text." in ended.stderr
