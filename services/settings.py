"""Every setting of the house, for the check of unknown `WEIR_*` variables and for the README's table."""

from services.dedup.config import DedupSettings
from services.runtime.config import (
    ClickHouseSettings,
    CommonSettings,
    KafkaSettings,
    WorkerSettings,
)

ALL_SETTINGS: tuple[type, ...] = (
    CommonSettings,
    KafkaSettings,
    ClickHouseSettings,
    WorkerSettings,
    DedupSettings,
)
