"""Read the sources and keys of the registry at one moment, for commands that show or change them."""

from dataclasses import dataclass

from weir.adapters.errors import UnavailableError
from weir.adapters.kafka.admin import KafkaAdmin
from weir.core.registry import ApiKey, Source
from weir.core.topics import REGISTRY
from weir.registry.follower import read_sources_and_keys
from weir.settings.shared import KafkaSettings


class NoRegistryError(UnavailableError):
    """The registry's topic does not exist yet."""


@dataclass(frozen=True)
class RegistryContents:
    """Contents of the registry: sources by id, and keys made by `weir keys` by digest."""

    sources: dict[str, Source]
    keys: dict[str, ApiKey]


def read_registry(settings: KafkaSettings) -> RegistryContents:
    """Read the registry; signing secrets stay as they are stored. `NoRegistryError`, `UnavailableError`."""
    if REGISTRY not in KafkaAdmin(settings).topics(with_config=False):
        raise NoRegistryError("The topic `registry` does not exist: run `weir topics apply` first.")
    sources, keys = read_sources_and_keys(settings)
    return RegistryContents(sources.by_id, keys.by_digest)
