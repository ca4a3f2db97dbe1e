"""Create, replace, find and list the keys of `weir keys`. Pure except for randomness."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from weir.core.registry import ApiKey, Scope, Source, hash_key
from weir.registry.contents import RegistryContents

SCOPES: tuple[Scope, ...] = ("write", "read", "admin")
KEY_BYTES = 20  # 160 bits: impossible to guess, so its digest needs neither salt nor stretching
SHOWN_DIGITS = 12  # shown hex digits of a digest
LEAST_DIGITS = 6


class KeysError(Exception):
    """The change is not possible; the text says what to correct."""


@dataclass(frozen=True)
class NewKey:
    """A new key: the only time that it is known in plain text."""

    plain: str
    key: ApiKey


def create_key(
    source: str, scope: Scope, name: str, now_ms: int, lifetime: timedelta | None
) -> NewKey:
    """Return a new key of 160 random bits; its prefix shows its scope, so that people and scanners recognize it."""
    plain = f"weir_{scope[0]}_{secrets.token_hex(KEY_BYTES)}"
    key = ApiKey(
        digest=hash_key(plain),
        source=source,
        scope=scope,
        name=name,
        created_at=now_ms,
        ends_at=_after(now_ms, lifetime) if lifetime else 0,
    )
    return NewKey(plain, key)


def rotate_key(
    old: ApiKey, now_ms: int, overlap: timedelta, lifetime: timedelta | None
) -> tuple[NewKey, ApiKey]:
    """Return (new, old): a new key of the same source, scope and name, and the old one with its end set.

    The old key ends after `overlap`, or earlier if it already had an earlier end. `KeysError` if it has ended.
    """
    if not old.in_force(now_ms):
        raise KeysError(
            f"The key {old.digest[:SHOWN_DIGITS]} has ended: make a new one with `weir keys create`."
        )
    end = _after(now_ms, overlap)
    ending = msgspec.structs.replace(old, ends_at=min(end, old.ends_at or end))
    return create_key(old.source, old.scope, old.name, now_ms, lifetime), ending


def _after(now_ms: int, span: timedelta) -> int:
    return now_ms + int(span.total_seconds() * 1_000)


def find(digest: str, registered: RegistryContents) -> ApiKey:
    """Return the only key whose digest begins with `digest`; `KeysError` if there is none, or more than one."""
    if len(digest) < LEAST_DIGITS or not re.fullmatch(r"[0-9a-f]+", digest):
        raise KeysError(
            f"Name a key by at least {LEAST_DIGITS} hex digits of its digest: `weir keys list`"
            " shows them. Do not give the key itself."
        )
    found = [key for key in registered.keys.values() if key.digest.startswith(digest)]
    if len(found) == 1:
        return found[0]
    if found:
        raise KeysError(f"{len(found)} keys begin with {digest}: give more digits.")
    for source in registered.sources.values():
        if any(one.startswith(digest) for one in source.key_hashes):
            raise KeysError(
                f"{digest} is a key of {source.id} in the sources file: remove it there, and run"
                " `weir apply`."
            )
    raise KeysError(f"No key begins with {digest}: `weir keys list` shows them all.")


def require_source(name: str, sources: Mapping[str, Source]) -> None:
    if name not in sources:
        known = ", ".join(sorted(sources)) or "none yet"
        raise KeysError(
            f"There is no source {name}; there are: {known}. `weir apply` creates sources."
        )


@dataclass(frozen=True)
class KeyRow:
    """One key as `weir keys list` shows it."""

    digest: str
    source: str
    scope: str
    name: str
    made_by: str  # "keys" or "file"
    created_at: str | None
    ends_at: str | None
    state: str  # in force, ended, or why the key is not accepted


def lines(registered: RegistryContents, source: str | None, now_ms: int) -> list[KeyRow]:
    """Return every key, by source: those of the file, then those of `weir keys`, the oldest first."""
    found = []
    for one in registered.sources.values():
        state = "in force" if one.enabled else "source disabled"
        for scope in SCOPES:
            for digest in getattr(one, f"{scope}_key_hashes"):
                found.append(KeyRow(digest, one.id, scope, "", "file", None, None, state))
    for key in sorted(registered.keys.values(), key=lambda key: (key.created_at, key.digest)):
        found.append(_line(key, registered.sources.get(key.source), now_ms))
    return sorted(
        (line for line in found if source is None or line.source == source),
        key=lambda line: line.source,
    )


def _line(key: ApiKey, source: Source | None, now_ms: int) -> KeyRow:
    state = "in force" if key.in_force(now_ms) else "ended"
    if source is None:
        state = "source gone"
    elif not source.enabled:
        state = "source disabled"
    ends = iso_time(key.ends_at) if key.ends_at else None
    created = iso_time(key.created_at)
    return KeyRow(key.digest, key.source, key.scope, key.name, "keys", created, ends, state)


def iso_time(epoch_ms: int) -> str:
    return f"{datetime.fromtimestamp(epoch_ms / 1_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
