"""`weir apply`: make the registry's sources match a YAML file."""

import os
from pathlib import Path

import click

from weir.cli.base import WrongInputError, notes, screen, settings_of
from weir.cli.retrying import with_retries
from weir.registry.source_changes import SourceChange, apply_sources, sealing_of
from weir.registry.sources_file import SourcesFileError
from weir.settings.shared import KafkaSettings

MARKS = {"add": "[green]+[/]", "change": "[yellow]~[/]", "remove": "[red]-[/]"}


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show the difference and write nothing.")
@click.option("--prune", is_flag=True, help="Remove the sources that FILE does not name.")
def command(file: Path, dry_run: bool, prune: bool) -> None:
    """Make the registry's sources match FILE (YAML); show the differences first.

    deploy/sources.yaml is an example with every option. Keys are hashed and signing secrets
    encrypted (WEIR_SECRETS_KEY) before anything is written or shown. Keys that `weir keys` created
    are kept, unless --prune removes their source. Gateways follow within two seconds.

    \b
    Example:
      weir apply --dry-run deploy/sources.yaml
      weir apply deploy/sources.yaml
    """
    try:
        kafka, sealing = settings_of(KafkaSettings), sealing_of(os.environ)
        changes = with_retries(
            lambda: apply_sources(kafka, file, sealing, prune=prune, dry_run=dry_run, show=_show)
        )
    except SourcesFileError as error:
        for fault in error.faults:
            notes().print(f"[red]✗[/] {_escaped(fault)}")
        count = len(error.faults)
        raise WrongInputError(
            f"{file} has {count} fault{'s' * (count > 1)}; nothing was written."
        ) from None
    if not changes:
        screen().print("Nothing to change.")
    else:
        screen().print(f"{len(changes)} {'to change (dry run)' if dry_run else 'written'}.")


def _show(changes: list[SourceChange]) -> None:
    console = screen()
    for change in changes:
        console.print(f"{MARKS[change.action]} source {change.source}")
        for detail in change.details:
            console.print(f"    {_escaped(detail)}")


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


if __name__ == "__main__":
    command()
