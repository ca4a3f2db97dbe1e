"""`weir apply`: the registry's sources as a YAML file declares them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from services.commands.base import WrongInputError, clear_errors, notes, screen, settings_of
from services.commands.sources_file import SourcesFileError, read_sources
from services.core.registry import IdMapping, Quota, Source
from services.core.topics import REGISTRY
from services.edge.avro import schemas
from services.edge.faults import NotReachedError
from services.edge.kafka import Entry, TableReader, write_entries
from services.edge.kafka_admin import KafkaAdmin
from services.edge.registry import SOURCE_KIND, Sources, registry_key
from services.runtime.config import KafkaSettings

READ_ONCE_MS = 20
MARKS = {"add": "[green]+[/]", "change": "[yellow]~[/]", "remove": "[red]-[/]"}


class NoRegistryError(NotReachedError):
    """The topic of the registry does not exist yet."""


@dataclass(frozen=True)
class SourceChange:
    """One source to `add`, `change` or `remove`, and the lines that say what differs."""

    action: str
    source: str
    details: tuple[str, ...]


def read_registry(settings: KafkaSettings) -> dict[str, Source]:
    """Every source that the registry holds at present, by id."""
    sources = Sources()
    reader = TableReader(settings, REGISTRY, READ_ONCE_MS)
    try:
        reader.read_all(sources.apply)
    finally:
        reader.close()
    return sources.by_id


def plan(wanted: dict[str, Source], present: dict[str, Source], prune: bool) -> list[SourceChange]:
    """What makes `present` as `wanted`; sources that only `present` has stay unless `prune`."""
    changes = []
    for name, source in sorted(wanted.items()):
        if name not in present:
            details = tuple(_described(source))
            changes.append(SourceChange("add", name, details))
        elif present[name] != source:
            changes.append(SourceChange("change", name, tuple(_differences(present[name], source))))
    if prune:
        gone = sorted(set(present) - set(wanted))
        changes += [SourceChange("remove", name, ()) for name in gone]
    return changes


def key_conflicts(wanted: dict[str, Source], present: dict[str, Source], prune: bool) -> list[str]:
    """Faults of a file whose keys another source of the registry, absent from it, has already."""
    if prune:
        return []
    owners = {
        digest: name
        for name, source in present.items()
        if name not in wanted
        for digest in source.key_hashes
    }
    return [
        f"sources.{source.id}: has a key that {owners[digest]} of the registry has too;"
        " give it its own"
        for source in wanted.values()
        for digest in source.key_hashes
        if digest in owners
    ]


def apply_sources(
    settings: KafkaSettings,
    path: Path,
    *,
    prune: bool = False,
    dry_run: bool = False,
    show: Callable[[list[SourceChange]], None] = lambda changes: None,
) -> list[SourceChange]:
    """The registry holds the file's sources, durably, on return; gives what differed.

    `show` is called with the differences before anything is written; only those are. Raises
    `SourcesFileError` (nothing written), `NoRegistryError`, `KafkaUnreachableError`.
    """
    wanted = read_sources(path)
    if REGISTRY not in KafkaAdmin(settings).topics(with_config=False):
        raise NoRegistryError("The topic `registry` does not exist: run `weir topics apply` first.")
    present = read_registry(settings)
    conflicts = key_conflicts(wanted, present, prune)
    if conflicts:
        raise SourcesFileError(conflicts)
    changes = plan(wanted, present, prune)
    show(changes)
    if changes and not dry_run:
        now = int(time.time() * 1_000)
        entries = [_entry(change, wanted.get(change.source), now) for change in changes]
        write_entries(settings, REGISTRY, entries)
    return changes


def _entry(change: SourceChange, source: Source | None, now: int) -> Entry:
    if source is None:
        return registry_key(SOURCE_KIND, change.source), None
    record = {
        "kind": SOURCE_KIND,
        "id": source.id,
        "document": msgspec.json.encode(source).decode(),
        "updated_at": now,
    }
    return registry_key(SOURCE_KIND, source.id), schemas()["RegistryEntry"].encode(record)


def _described(source: Source) -> list[str]:
    return [
        f"{name}: {_shown(name, value)}"
        for name, value in msgspec.structs.asdict(source).items()
        if name != "id" and value not in ((), "")
    ]


def _differences(old: Source, new: Source) -> list[str]:
    before, after = msgspec.structs.asdict(old), msgspec.structs.asdict(new)
    return [
        f"{name}: {_shown(name, before[name])} -> {_shown(name, after[name])}"
        for name in after
        if before[name] != after[name]
    ]


def _shown(name: str, value: Any) -> str:
    if name == "signing_secrets":
        return f"{len(value)} of them" if value else "none"
    if name.endswith("key_hashes"):  # enough of a digest to tell keys apart
        return ", ".join(digest[:8] + "…" for digest in value) or "none"
    if name == "quotas":
        return ", ".join(_quota(quota) for quota in value) or "none"
    if name == "mappings":
        return ", ".join(_mapping(mapping) for mapping in value) or "none"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _quota(quota: Quota) -> str:
    return f"{quota.name} ({quota.limit:,} {quota.unit} a {quota.period}, {quota.action})"


def _mapping(mapping: IdMapping) -> str:
    ids = msgspec.structs.asdict(mapping)
    del ids["event"]
    named = ", ".join(f"{name}={path}" for name, path in ids.items() if path)
    return f"{mapping.event} ({named})"


@click.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show the difference and write nothing.")
@click.option("--prune", is_flag=True, help="Remove the sources that FILE does not name.")
def command(file: Path, dry_run: bool, prune: bool) -> None:
    """Make the registry's sources as FILE (YAML) declares them; shows the difference first.

    deploy/sources.yaml is an example with every option. Keys are hashed before anything is
    written or shown. Gateways follow within two seconds.

    \b
    Example:
      weir apply --dry-run deploy/sources.yaml
      weir apply deploy/sources.yaml
    """
    try:
        with clear_errors():
            changes = apply_sources(
                settings_of(KafkaSettings), file, prune=prune, dry_run=dry_run, show=_show
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
