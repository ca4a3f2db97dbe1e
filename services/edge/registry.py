"""The registry as a service sees it: a copy in memory that follows the topic."""

import threading
from collections.abc import Iterator

import msgspec

from services.core import topics
from services.core.registry import Source
from services.edge import avro
from services.edge.kafka import TableReader
from services.runtime import logs
from services.runtime.config import KafkaSettings

SOURCE_KIND = "source"


def registry_key(kind: str, entry_id: str) -> bytes:
    return f"{kind}\0{entry_id}".encode()


class Sources:
    """Every source by id. Bring it up to date with `apply`, entry by entry as the topic has them."""

    def __init__(self) -> None:
        self.by_id: dict[str, Source] = {}
        self._changed: set[str] = set()
        self._log = logs.get("registry")

    def apply(self, key: bytes, value: bytes | None) -> None:
        kind, _, entry_id = key.decode().partition("\0")
        if kind != SOURCE_KIND:
            return
        if value is None:
            self.by_id.pop(entry_id, None)
        else:
            _, entry = avro.decode_any(value)
            try:
                self.by_id[entry_id] = msgspec.json.decode(entry["document"], type=Source)
            except msgspec.ValidationError as fault:
                # an entry of a newer version: the one before it stays in force
                self._log.error("registry entry not understood", id=entry_id, fault=str(fault))
                return
        self._changed.add(entry_id)

    def take_changed(self) -> set[str]:
        """The ids that changed since the last call."""
        changed, self._changed = self._changed, set()
        return changed


class RegistryFollower:
    """Keeps `sources` up to date from a thread of its own. Complete once constructed."""

    def __init__(self, settings: KafkaSettings, stop: threading.Event) -> None:
        self.sources = Sources()
        self._reader = TableReader(settings, topics.REGISTRY)
        self._reader.read_all(self.sources.apply)
        self._stop = stop
        self._thread = threading.Thread(target=self._follow, name="registry", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._stop.is_set():
            for key, value in self._entries():
                self.sources.apply(key, value)
        self._reader.close()

    def _entries(self) -> Iterator[tuple[bytes, bytes | None]]:
        yield from self._reader.poll(0.5)
