"""Settings of what runs on one machine: the embedded broker and `weir up`."""

from dataclasses import dataclass

from services.runtime.settings import at_least, setting


@dataclass(frozen=True)
class BrokerSettings:
    kafka_heap_megabytes: int = setting(
        512, "heap of the embedded broker", "MiB", check=at_least(128)
    )
