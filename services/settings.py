"""Every setting of the house, for the check of unknown `WEIR_*` variables and for the README's table."""

from services.commands.config import CommandSettings, SendSettings
from services.dedup.config import DedupSettings
from services.eraser.config import EraserSettings
from services.gateway.config import GatewaySettings
from services.identity.config import IdentitySettings
from services.local.config import BrokerSettings, UpSettings
from services.rates.config import RatesSettings
from services.runtime.config import (
    ClickHouseSettings,
    CommonSettings,
    KafkaSettings,
    MigrationSettings,
    SecretsSettings,
    WorkerSettings,
)
from services.sink.config import SinkSettings
from services.warehouse.config import WarehouseSettings

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
