"""Apply a sources file to the registry: compute the differences and write them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from weir.adapters.kafka.clients import Entry, write_entries
from weir.core.registry import ApiKey, IdMapping, Quota, Source
from weir.core.topics import REGISTRY
from weir.registry.contents import read_registry
from weir.registry.follower import KEY_KIND, SOURCE_KIND, registry_key, source_entry
from weir.registry.secret_encryption import NoSecretsKeyError, SecretEncryption, secrets_keys
from weir.registry.sources_file import SourcesFileError, read_sources
from weir.settings.environment import load
from weir.settings.shared import CommonSettings, KafkaSettings, SecretsSettings


@dataclass(frozen=True)
class SourceChange:
    """One source to `add`, `change` or `remove`, and lines of text that describe the differences."""

    action: str
    source: str
    details: tuple[str, ...]


def plan(wanted: dict[str, Source], present: dict[str, Source], prune: bool) -> list[SourceChange]:
    """Return the changes from `present` to `wanted`; sources only in `present` are removed only with `prune`."""
    changes = []
    for name, source in sorted(wanted.items()):
        if name not in present:
            details = tuple(_described(source))
            changes.append(SourceChange("add", name, details))
        elif present[name] != source:
            changes.append(SourceChange("change", name, tuple(_differences(present[name], source))))
    if prune:
        gone = sorted(set(present) - set(wanted))
        changes += [SourceChange("remove", name, ("its keys are removed, too",)) for name in gone]
    return changes


def plan_sealing(
    wanted: dict[str, Source], stored: dict[str, Source], sealing: SecretEncryption
) -> list[SourceChange]:
    """Return changes for sources of the file whose secrets are stored in plain or encrypted with an old key."""
    return [
        SourceChange("change", name, ("signing_secrets: encrypted with the current key",))
        for name in sorted(set(wanted) & set(stored))
        if not sealing.is_current(stored[name])
    ]


def key_conflicts(
    wanted: dict[str, Source],
    present: dict[str, Source],
    prune: bool,
    made: Mapping[str, ApiKey] | None = None,
) -> list[str]:
    """Return a fault for each key of the file that a source of the registry outside the file has too.

    `made`: keys that `weir keys` made; they must not be in the file either.
    """
    owners = {
        digest: name
        for name, source in present.items()
        if name not in wanted and not prune
        for digest in source.key_hashes
    }
    faults = [
        f"sources.{source.id}: has a key that {owners[digest]} in the registry has too;"
        " give it its own"
        for source in wanted.values()
        for digest in source.key_hashes
        if digest in owners
    ]
    return faults + [
        f"sources.{source.id}: has a key that `weir keys` made ({digest[:8]}…); leave it out"
        for source in wanted.values()
        for digest in source.key_hashes
        if digest in (made or {})
    ]


def apply_sources(
    settings: KafkaSettings,
    path: Path,
    sealing: SecretEncryption,
    *,
    prune: bool = False,
    dry_run: bool = False,
    show: Callable[[list[SourceChange]], None] = lambda changes: None,
) -> list[SourceChange]:
    """Write the file's sources to the registry, durably, and return the changes.

    `show` is called with the changes before anything is written; only changes are written. Keys that
    `weir keys` made stay unless their source is removed. `SourcesFileError` (nothing is written),
    `NoRegistryError`, `KafkaUnreachableError`.
    """
    wanted = read_sources(path)
    registered = read_registry(settings)
    conflicts = key_conflicts(wanted, registered.sources, prune, registered.keys)
    sealed = {}
    for name, source in wanted.items():
        try:
            sealed[name] = sealing.sealed(source)
        except NoSecretsKeyError as fault:
            conflicts.append(f"sources.{name}.signing_secrets: {fault}")
    if conflicts:
        raise SourcesFileError(conflicts)
    opened = {name: sealing.opened(source) for name, source in registered.sources.items()}
    changes = plan(wanted, opened, prune)
    planned = {change.source for change in changes}
    changes += [
        change
        for change in plan_sealing(wanted, registered.sources, sealing)
        if change.source not in planned
    ]
    show(changes)
    if changes and not dry_run:
        entries: list[Entry] = []
        for change in changes:
            entries += _entries(change.source, sealed.get(change.source), registered.keys)
        write_entries(settings, REGISTRY, entries)
    return changes


def _entries(name: str, source: Source | None, keys: Mapping[str, ApiKey]) -> list[Entry]:
    """Return the entries that write a source, or, if it is None, delete the source `name` and its keys."""
    if source is not None:
        return [source_entry(source)]
    digests = [digest for digest, key in keys.items() if key.source == name]
    return [
        (registry_key(SOURCE_KIND, name), None),
        *((registry_key(KEY_KIND, digest), None) for digest in digests),
    ]


def sealing_of(environ: Mapping[str, str]) -> SecretEncryption:
    """Return the encryption with the keys of the environment, or with this machine's local key."""
    common, kafka = load(CommonSettings, environ), load(KafkaSettings, environ)
    return SecretEncryption(secrets_keys(common, kafka, load(SecretsSettings, environ)))


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
    if name.endswith("key_hashes"):  # enough of a digest to distinguish keys
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
