"""`weir settings`: list every environment variable that Weir reads."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.table import Table

from weir.cli.base import screen
from weir.core.resource_paths import ROOT
from weir.settings.catalogue import ALL_SETTINGS
from weir.settings.environment import flag, variable


class SettingLine(NamedTuple):
    """One setting as text."""

    name: str
    default: str
    unit: str
    meaning: str


def all_settings() -> Iterator[SettingLine]:
    """Yield every setting once, in declaration order."""
    seen: set[str] = set()
    for cls in ALL_SETTINGS:
        for field in dataclasses.fields(cls):
            name = variable(field.name)
            if name in seen:
                continue
            seen.add(name)
            yield SettingLine(name, shown(field.default), field.metadata["unit"], explained(field))


def explained(field: dataclasses.Field[Any]) -> str:
    """Return a setting's meaning, with its flag and its alias if it has them."""
    ways = [f"`{flag(field.name)}`"] if field.metadata["is_flag"] else []
    if alias := field.metadata["alias"]:
        ways.append(f"`{alias}`")
    meaning = str(field.metadata["meaning"])
    return f"{meaning} (also {', '.join(ways)})" if ways else meaning


def shown(default: Any) -> str:
    """Return a default as it is written in the environment."""
    if default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, Path) and default.is_relative_to(ROOT):
        return str(default.relative_to(ROOT))
    return str(default)


@click.command("settings")
@click.option("--markdown", is_flag=True, help="Print a Markdown table, for the documentation.")
def command(markdown: bool) -> None:
    """List every setting: its variable, default, unit and meaning.

    \b
    Example:
      weir settings
      weir settings --markdown
    """
    lines = list(all_settings())
    if markdown:
        click.echo(as_markdown(lines), nl=False)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("setting", "default", "unit", "meaning"):
        table.add_column(name, overflow="fold", no_wrap=name == "setting")
    for line in lines:
        table.add_row(*(text.replace("[", "\\[") for text in line))
    screen().print(table, soft_wrap=False)


def as_markdown(lines: list[SettingLine]) -> str:
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for line in lines:
        default = f"`{line.default}`" if line.default else ""
        default += f" {line.unit}" if line.default and line.unit else ""
        rows.append(f"| `{line.name}` | {default} | {line.meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"
