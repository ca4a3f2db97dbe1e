"""The registry in a service: an in-memory copy that follows the topic."""

import threading
import time
from typing import Any, TypeVar

import msgspec
from confluent_kafka import KafkaException

from weir.adapters import avro
from weir.adapters.errors import UnavailableError
from weir.adapters.kafka.clients import Entry, TableReader
from weir.adapters.kafka.table_entries import apply_entries
from weir.adapters.kafka.table_follower import TableFollower
from weir.core import topics
from weir.core.blocked_ids import DEFAULT, BlockedIds
from weir.core.registry import SESSION_GAP_SECONDS, ApiKey, Goal, IdMapping, Source
from weir.runtime import logs
from weir.runtime.ports import StreamBrokenError
from weir.settings.shared import KafkaSettings

SOURCE_KIND = "source"
GOAL_KIND = "goal"
KEY_KIND = "key"
READ_ONCE_MS = 20
START_SECONDS = 30.0

T = TypeVar("T")


def registry_key(kind: str, entry_id: str) -> bytes:
    return f"{kind}\0{entry_id}".encode()


def source_entry(source: Source) -> tuple[bytes, bytes]:
    """Return (key, value) of a source's registry entry. Its secrets are written as given."""
    return registry_entry(SOURCE_KIND, source.id, source)


def key_entry(key: ApiKey) -> tuple[bytes, bytes]:
    """Return (key, value) of an API key's registry entry."""
    return registry_entry(KEY_KIND, key.digest, key)


def goal_entry(goal: Goal) -> tuple[bytes, bytes]:
    """Return (key, value) of a goal's registry entry."""
    return registry_entry(GOAL_KIND, goal.entry_id, goal)


def registry_entry(kind: str, entry_id: str, document: msgspec.Struct) -> tuple[bytes, bytes]:
    """Return (key, value) of a registry entry of any kind."""
    record = {
        "kind": kind,
        "id": entry_id,
        "document": msgspec.json.encode(document).decode(),
        "updated_at": int(time.time() * 1_000),
    }
    return registry_key(kind, entry_id), avro.schemas()["RegistryEntry"].encode(record)


def _understood(value: bytes, kind: type[T], entry_id: str, log: Any) -> T | None:
    """Decode an entry's document; None for an entry of a newer version: the earlier entry stays in force."""
    _, entry = avro.decode_any(value)
    try:
        return msgspec.json.decode(entry["document"], type=kind)
    except msgspec.ValidationError as fault:
        log.error(
            "registry entry not understood; the entry before it stays in force. If a newer version of"
            " Weir wrote it, upgrade this service, or apply a file without the new options.",
            id=entry_id,
            fault=str(fault),
        )
        return None


class Sources:
    """All sources by id. Update it with `apply`, entry by entry in the order of the topic."""

    def __init__(self) -> None:
        self.by_id: dict[str, Source] = {}
        self._changed: set[str] = set()
        self._log = logs.get("registry")

    def mappings_of(self, source_id: str) -> tuple[IdMapping, ...]:
        """Return where a source's profile-less events hold ids; () for an unknown source."""
        source = self.by_id.get(source_id)
        return source.mappings if source else ()

    def blocked_of(self, source_id: str) -> BlockedIds:
        """Return the values that are not ids for a source; the defaults for an unknown source."""
        source = self.by_id.get(source_id)
        if source is None:
            return DEFAULT
        return BlockedIds.of(source.blocked_ids, source.block_default_ids)

    def session_gap_of(self, source_id: str) -> int:
        """Return the session gap of a source in seconds; the default for an unknown source."""
        source = self.by_id.get(source_id)
        return source.session_gap_seconds if source else SESSION_GAP_SECONDS

    def apply(self, key: bytes, value: bytes | None) -> None:
        kind, _, entry_id = key.decode().partition("\0")
        if kind != SOURCE_KIND:
            return
        if value is None:
            self.by_id.pop(entry_id, None)
        else:
            source = _understood(value, Source, entry_id, self._log)
            if source is None:
                return
            self.by_id[entry_id] = source
        self._changed.add(entry_id)

    def take_changed(self) -> set[str]:
        """Return the ids of the sources that changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed


class Keys:
    """All keys that `weir keys` made, by digest. Update it with `apply`, entry by entry."""

    def __init__(self) -> None:
        self.by_digest: dict[str, ApiKey] = {}
        self._changed: set[str] = set()
        self._log = logs.get("registry")

    def of(self, source_id: str) -> list[ApiKey]:
        """Return the keys of a source, the oldest first."""
        keys = [key for key in self.by_digest.values() if key.source == source_id]
        return sorted(keys, key=lambda key: (key.created_at, key.digest))

    def apply(self, key: bytes, value: bytes | None) -> None:
        kind, _, digest = key.decode().partition("\0")
        if kind != KEY_KIND:
            return
        present = None if value is None else _understood(value, ApiKey, digest, self._log)
        if value is not None and present is None:
            return
        for changed in (self.by_digest.pop(digest, None), present):
            if changed is not None:
                self._changed.add(changed.source)
        if present is not None:
            self.by_digest[digest] = present

    def take_changed(self) -> set[str]:
        """Return the ids of the sources whose keys changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed


class Goals:
    """All goals by site. Update it with `apply`, entry by entry."""

    def __init__(self) -> None:
        self._by_site: dict[str, dict[str, Goal]] = {}
        self._log = logs.get("registry")

    def of(self, site_id: str) -> list[Goal]:
        """Return the goals of a site, the oldest first."""
        goals = self._by_site.get(site_id, {})
        return sorted(goals.values(), key=lambda goal: (goal.created_at, goal.id))

    def apply(self, key: bytes, value: bytes | None) -> None:
        kind, _, entry_id = key.decode().partition("\0")
        if kind != GOAL_KIND:
            return
        site_id, _, goal_id = entry_id.partition("/")
        if value is None:
            self._by_site.get(site_id, {}).pop(goal_id, None)
            return
        goal = _understood(value, Goal, entry_id, self._log)
        if goal is not None:
            self._by_site.setdefault(site_id, {})[goal_id] = goal


def read_sources_and_keys(settings: KafkaSettings, seconds: float = 30) -> tuple[Sources, Keys]:
    """Return (sources, keys) as they are now. `UnavailableError` after `seconds`."""
    sources, keys = Sources(), Keys()

    def apply(key: bytes, value: bytes | None) -> None:
        sources.apply(key, value)
        keys.apply(key, value)

    reader = TableReader(settings, topics.REGISTRY, READ_ONCE_MS)
    try:
        reader.read_all(lambda *entry: apply_entries(topics.REGISTRY, [entry], apply), seconds)
    except KafkaException as fault:
        raise UnavailableError(f"The registry cannot be read: {fault.args[0]}.") from None
    finally:
        reader.close()
    return sources, keys


class RegistryFollower:
    """Keeps `sources` up to date from a separate thread. They are complete once it is constructed.

    The constructor raises `StreamBrokenError` if the registry cannot be read within START_SECONDS.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self.sources = Sources()
        self._loaded = threading.Event()
        self._follower = TableFollower(settings, topics.REGISTRY, self._apply)
        self._follower.start()
        if not self._loaded.wait(START_SECONDS):
            raise StreamBrokenError(f"the topic {topics.REGISTRY} cannot be read")

    def _apply(self, entries: list[Entry]) -> None:
        apply_entries(topics.REGISTRY, entries, self.sources.apply)
        self._loaded.set()
