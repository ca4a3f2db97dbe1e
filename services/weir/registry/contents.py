"""The whole registry at one moment, for commands that change it or look something up."""

from dataclasses import dataclass

from weir.adapters.errors import NotReachedError
from weir.adapters.kafka.admin import KafkaAdmin
from weir.core.registry import ApiKey, Source
from weir.core.topics import REGISTRY
from weir.registry.follower import read_sources_and_keys
from weir.settings.shared import KafkaSettings


class NoRegistryError(NotReachedError):
    """The topic of the registry does not exist yet."""


@dataclass(frozen=True)
class RegistryContents:
    """What the registry holds at present: sources by id, keys of `weir keys` by digest."""

    sources: dict[str, Source]
    keys: dict[str, ApiKey]


def read_registry(settings: KafkaSettings) -> RegistryContents:
    """The registry as it is; signing secrets as they are stored. `NoRegistryError`."""
    if REGISTRY not in KafkaAdmin(settings).topics(with_config=False):
        raise NoRegistryError("The topic `registry` does not exist: run `weir topics apply` first.")
    sources, keys = read_sources_and_keys(settings)
    return RegistryContents(sources.by_id, keys.by_digest)
