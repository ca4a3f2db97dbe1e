"""All settings classes, for the check for unknown `WEIR_*` variables and for the README's table."""

from weir.settings.cli import CommandSettings, SendSettings
from weir.settings.dedup import DedupSettings
from weir.settings.embedded import BrokerSettings, UpSettings
from weir.settings.embedded_clickhouse import WarehouseSettings
from weir.settings.erasure import EraserSettings
from weir.settings.gateway import GatewaySettings
from weir.settings.identity import IdentitySettings
from weir.settings.rates import RatesSettings
from weir.settings.shared import (
    ClickHouseSettings,
    CommonSettings,
    KafkaSettings,
    MigrationSettings,
    SecretsSettings,
    WorkerSettings,
)
from weir.settings.sink import SinkSettings

ALL_SETTINGS: tuple[type, ...] = (
    CommonSettings,
    KafkaSettings,
    SecretsSettings,
    ClickHouseSettings,
    WorkerSettings,
    GatewaySettings,
    DedupSettings,
    IdentitySettings,
    RatesSettings,
    EraserSettings,
    SendSettings,
    CommandSettings,
    BrokerSettings,
    UpSettings,
    SinkSettings,
    MigrationSettings,
    WarehouseSettings,
)
