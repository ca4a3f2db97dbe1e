"""Every setting of the house, for the check of unknown `WEIR_*` variables and for the README's table."""

from services.runtime.config import ClickHouseSettings, CommonSettings, KafkaSettings

ALL_SETTINGS: tuple[type, ...] = (CommonSettings, KafkaSettings, ClickHouseSettings)
