"""Settings that several services share."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from weir.settings.environment import at_least, setting


def one_of(choices: tuple[str, ...]) -> Callable[[str], str | None]:
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}"


LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True)
class CommonSettings:
    data_dir: Path = setting(Path(".weir"), "folder of all local data")
    host: str = setting("127.0.0.1", "address that services bind to")
    log_level: str = setting("INFO", "least severe level that is logged", check=one_of(LOG_LEVELS))
    log_format: str = setting(
        "text", "`text`, or `json`: each line is a JSON object", check=one_of(("text", "json"))
    )


def _are_secrets_keys(values: tuple[str, ...]) -> str | None:
    for value in values:
        try:
            sound = len(base64.b64decode(value.encode(), b"-_", validate=True)) == 32
        except ValueError:
            sound = False
        if not sound:  # the message must not show the key
            return "must be keys made by `weir keys secret-key`, separated by commas"
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


def is_file(value: Path | None) -> str | None:
    return None if value is None or value.is_file() else f"{value}: there is no such file"


SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class KafkaSettings:
    kafka_bootstrap: str = setting("", "brokers; empty: the embedded one on `WEIR_KAFKA_PORT`")
    kafka_port: int = setting(9092, "port of the embedded broker")
    kafka_security_protocol: str = setting(
        "PLAINTEXT",
        f"how to connect to the brokers: {', '.join(SECURITY_PROTOCOLS)}",
        check=one_of(SECURITY_PROTOCOLS),
    )
    kafka_sasl_mechanism: str = setting(
        "SCRAM-SHA-512",
        f"with SASL, how to log in: {', '.join(SASL_MECHANISMS)}",
        check=one_of(SASL_MECHANISMS),
    )
    kafka_username: str = setting("", "with SASL, the user")
    kafka_password: str = setting("", "with SASL, the user's password", secret=True)
    kafka_ca_file: Path | None = setting(
        None,
        "with SSL, the CA certificates (PEM) to verify the brokers with; empty: the system's",
        check=is_file,
    )
    kafka_cert_file: Path | None = setting(
        None, "with SSL, Weir's own certificate (PEM), if the brokers require one", check=is_file
    )
    kafka_key_file: Path | None = setting(
        None, "with SSL, the private key (PEM) of Weir's own certificate", check=is_file
    )
    kafka_key_password: str = setting("", "with SSL, the password of the private key", secret=True)
    kafka_options: dict[str, str] | None = setting(
        None, "further librdkafka options, `key=value,...`", secret=True
    )

    def bootstrap(self) -> str:
        return self.kafka_bootstrap or f"127.0.0.1:{self.kafka_port}"

    @property
    def logs_in(self) -> bool:
        return self.kafka_security_protocol.startswith("SASL")

    @property
    def is_encrypted(self) -> bool:
        return self.kafka_security_protocol.endswith("SSL")

    def faults(self) -> list[str]:
        """Return faults for settings without effect or counterpart: ignoring them could mean no protection."""
        protocol = f"WEIR_KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol}"
        user = bool(self.kafka_username or self.kafka_password)
        files = self.kafka_ca_file or self.kafka_cert_file or self.kafka_key_file
        found = []
        if self.kafka_security_protocol != "PLAINTEXT" and not self.kafka_bootstrap:
            found.append(
                f"{protocol}: the embedded broker supports only PLAINTEXT; set WEIR_KAFKA_BOOTSTRAP"
            )
        if self.logs_in and not (self.kafka_username and self.kafka_password):
            found.append(f"{protocol}: needs WEIR_KAFKA_USERNAME and WEIR_KAFKA_PASSWORD")
        if user and not self.logs_in:
            found.append(f"WEIR_KAFKA_USERNAME, WEIR_KAFKA_PASSWORD: do nothing with {protocol}")
        if files and not self.is_encrypted:
            found.append(f"WEIR_KAFKA_CA_FILE, _CERT_FILE, _KEY_FILE: do nothing with {protocol}")
        if bool(self.kafka_cert_file) != bool(self.kafka_key_file):
            found.append("WEIR_KAFKA_CERT_FILE and WEIR_KAFKA_KEY_FILE: one needs the other")
        return found


def _is_bare_url(value: str) -> str | None:
    if not value:
        return None
    parts = urlsplit(value)
    if parts.username or parts.password:  # refused because error messages show the URL
        return (
            "must not contain user and password: set WEIR_CLICKHOUSE_USER, WEIR_CLICKHOUSE_PASSWORD"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "must be like http://host:8123 or https://host:8443"
    return None


@dataclass(frozen=True)
class ClickHouseSettings:
    clickhouse_url: str = setting(
        "",
        "a ClickHouse server, http or https; empty: the embedded one on `WEIR_CLICKHOUSE_PORT`",
        check=_is_bare_url,
    )
    clickhouse_port: int = setting(8123, "port of the embedded ClickHouse")
    clickhouse_user: str = setting("default", "user for ClickHouse")
    clickhouse_password: str = setting(
        "",
        "password for ClickHouse; if it is set, the embedded ClickHouse requires it",
        secret=True,
    )
    clickhouse_ca_file: Path | None = setting(
        None,
        "with https, the CA certificates (PEM) to verify the server with; empty: the usual ones",
        check=is_file,
    )
    clickhouse_verify: bool = setting(
        True, "with https, whether the server's certificate is verified"
    )
    clickhouse_reader_user: str = setting(
        "reader", "user of the embedded ClickHouse who may only read, and only Weir's database"
    )
    clickhouse_reader_password: str = setting(
        "",
        "the reader's password; empty: no password, and no reader if"
        " `WEIR_CLICKHOUSE_PASSWORD` is set",
        secret=True,
    )
    clickhouse_database: str = setting("weir", "database of Weir's tables")

    def url(self) -> str:
        return self.clickhouse_url or f"http://127.0.0.1:{self.clickhouse_port}"

    def faults(self) -> list[str]:
        found = []
        if self.clickhouse_ca_file and not self.clickhouse_url.startswith("https:"):
            found.append(
                "WEIR_CLICKHOUSE_CA_FILE: does nothing unless WEIR_CLICKHOUSE_URL is https"
            )
        if self.clickhouse_reader_user == self.clickhouse_user:
            found.append(
                "WEIR_CLICKHOUSE_READER_USER: must not be WEIR_CLICKHOUSE_USER, who may do everything"
            )
        return found


ENGINES = ("plain", "replicated")


@dataclass(frozen=True)
class MigrationSettings:
    """Settings for the statements that create and alter tables, in migrations and erasures."""

    clickhouse_engines: str = setting(
        "plain", "`plain` tables, or `replicated` ones for a cluster", check=one_of(ENGINES)
    )
    clickhouse_cluster: str = setting(
        "", "cluster that migrations run on (`ON CLUSTER`); empty: a single server"
    )


@dataclass(frozen=True)
class WorkerSettings:
    """Settings that the workers (dedup, identity, rates) and the sink share."""

    instance: int = setting(
        0,
        "number of this instance's slot in its service; only one process may use a slot",
        check=at_least(0),
    )
    metrics_port: int = setting(0, "port of /livez, /readyz and /metrics; 0: off")
    worker_poll_seconds: float = setting(
        0.05, "how long a worker gathers records for one transaction", "s", check=at_least(0.001)
    )
    worker_fetch_kilobytes: int = setting(
        4_096, "maximum size of the records fetched ahead of a worker", "KiB", check=at_least(1_024)
    )
    transaction_seconds: int = setting(
        20,
        "time after which the broker aborts an open transaction; doubled after each recovery, up to"
        " 60, until a transaction is committed",
        "s",
        check=at_least(1),
    )
    session_seconds: int = setting(
        10,
        "time without a heartbeat after which other instances get an instance's partitions",
        "s",
        check=at_least(6),
    )
