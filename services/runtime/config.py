"""Settings that every service shares."""

import base64
from dataclasses import dataclass
from pathlib import Path

from services.runtime.settings import at_least, setting

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def _is_log_level(value: str) -> str | None:
    return None if value in LOG_LEVELS else f"must be one of {', '.join(LOG_LEVELS)}"


@dataclass(frozen=True)
class CommonSettings:
    data_dir: Path = setting(Path(".weir"), "where everything local lives")
    host: str = setting("127.0.0.1", "address that services bind to")
    log_level: str = setting("INFO", "least severe level that is logged", check=_is_log_level)
    log_format: str = setting("text", "`text` or `json`")


def _are_secrets_keys(values: tuple[str, ...]) -> str | None:
    for value in values:
        try:
            sound = len(base64.b64decode(value.encode(), b"-_", validate=True)) == 32
        except ValueError:
            sound = False
        if not sound:  # not shown
            return "must be keys as `weir keys secret-key` makes them, separated by commas"
    return None


@dataclass(frozen=True)
class SecretsSettings:
    secrets_key: tuple[str, ...] = setting(
        (),
        "keys that encrypt signing secrets in the registry: the first encrypts, all decrypt; `weir"
        " keys secret-key` makes one; empty: with the embedded broker, one kept in `WEIR_DATA_DIR`",
        secret=True,
        check=_are_secrets_keys,
    )


@dataclass(frozen=True)
class KafkaSettings:
    kafka_bootstrap: str = setting("", "brokers; empty: the embedded one on `WEIR_KAFKA_PORT`")
    kafka_port: int = setting(9092, "port of the embedded broker")
    kafka_options: dict[str, str] | None = setting(
        None, "further librdkafka options, `key=value,...`", secret=True
    )

    def bootstrap(self) -> str:
        return self.kafka_bootstrap or f"127.0.0.1:{self.kafka_port}"


@dataclass(frozen=True)
class ClickHouseSettings:
    clickhouse_url: str = setting(
        "", "a ClickHouse server; empty: the embedded one on `WEIR_CLICKHOUSE_PORT`"
    )
    clickhouse_port: int = setting(8123, "port of the embedded ClickHouse")
    clickhouse_user: str = setting("default", "user for ClickHouse")
    clickhouse_password: str = setting("", "password for ClickHouse", secret=True)
    clickhouse_database: str = setting("weir", "database that Weir's tables live in")

    def url(self) -> str:
        return self.clickhouse_url or f"http://127.0.0.1:{self.clickhouse_port}"


@dataclass(frozen=True)
class WorkerSettings:
    """What the workers (dedup, identity, rates) and the sink share."""

    instance: int = setting(
        0, "slot of this instance among its service's; a slot has one process", check=at_least(0)
    )
    metrics_port: int = setting(0, "port of /livez, /readyz and /metrics; 0: off")
    worker_poll_seconds: float = setting(
        0.05, "how long a worker gathers records for one transaction", "s", check=at_least(0.001)
    )
    worker_fetch_kilobytes: int = setting(
        4_096, "records fetched ahead of a worker at most", "KiB", check=at_least(1_024)
    )
    transaction_seconds: int = setting(
        10, "after that the broker aborts an open transaction", "s", check=at_least(1)
    )
    session_seconds: int = setting(
        10,
        "after that without a heartbeat an instance's partitions go to others",
        "s",
        check=at_least(6),
    )
