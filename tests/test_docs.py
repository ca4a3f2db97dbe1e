"""The documentation matches the code: settings table, links, commands, alerts and compose file."""

import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from weir.cli.audit_watch import AGE as AUDIT_AGE
from weir.cli.audit_watch import DIFFERENCE
from weir.cli.main import cli
from weir.core.resource_paths import DEPLOY, ROOT
from weir.core.stages import STAGES
from weir.gateway.metrics import RETENTION, RETENTION_FAILURES
from weir.runtime.metrics import COMMIT_FAILURES, DEAD, LAG_SECONDS, LETTERS_CUT, STALLED
from weir.settings.catalogue import ALL_SETTINGS
from weir.settings.environment import known_variables
from weir.settings.gateway import GatewaySettings

PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
README = (ROOT / "README.md").read_text()


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def test_the_settings_page_contains_the_generated_settings_table() -> None:
    table = run("settings", "--markdown").strip()
    assert table in (ROOT / "docs" / "settings.md").read_text(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_point_to_existing_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)", page.read_text()):
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_command_named_in_the_readme_exists() -> None:
    named = set(re.findall(r"(?:`|bin/)weir ([a-z]+)", README))
    assert named >= {"send", "audit", "status", "sql"}
    for name in named:
        assert "Usage" in run(name, "--help")


def test_help_of_every_command_has_an_example() -> None:
    context = cli.make_context("weir", ["--help"], resilient_parsing=True)
    for name in cli.list_commands(context):
        assert "xample" in run(name, "--help"), name


def test_every_environment_variable_named_in_the_docs_exists() -> None:
    known = known_variables(ALL_SETTINGS)
    for page in (*PAGES, DEPLOY / "compose.yaml", DEPLOY / "Dockerfile"):
        for name in re.findall(r"\bWEIR_[A-Z][A-Z_]*[A-Z]\b", page.read_text()):
            assert name in known, f"{page.name}: {name}"


def test_alert_rules_use_existing_metrics_and_the_default_retention_shares() -> None:
    groups = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    named = {name for rule in rules for name in re.findall(r"weir_\w+", rule["expr"])}
    gauges = {m._name for m in (RETENTION, AUDIT_AGE, DIFFERENCE, STALLED, LAG_SECONDS)}
    counted = (RETENTION_FAILURES, DEAD, LETTERS_CUT, COMMIT_FAILURES)
    counters = {f"{metric._name}_total" for metric in counted}
    assert named == gauges | counters
    shares = {float(n) for rule in rules for n in re.findall(r"share\) >= ([\d.]+)", rule["expr"])}
    assert shares == {GatewaySettings().retention_warn, GatewaySettings().retention_refuse}


def test_the_compose_file_runs_existing_commands() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    commands = [service["command"] for service in services.values() if "command" in service]
    stages = (stage.name for stage in STAGES)
    assert sorted(commands) == sorted(["audit --watch", "eraser", "gateway", *stages])
    for command in commands:
        assert "Usage" in run(*command.split(), "--help")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`((?:services|tests|schemas|deploy)/[\w./-]+\.\w+)`", page.read_text())
    real = (name for name in named if not re.search(r"NNN_|_N\.", name))  # examples of names
    assert [name for name in real if not (ROOT / name).exists()] == []
