"""Settings of the CLI commands."""

from dataclasses import dataclass
from pathlib import Path

from weir.settings.environment import at_least, setting
from weir.settings.shared import is_file


@dataclass(frozen=True)
class CommandSettings:
    command_patience: float = setting(
        30.0,
        "how long commands retry while Kafka or ClickHouse does not answer",
        "seconds",
        check=at_least(0),
    )


@dataclass(frozen=True)
class SendSettings:
    write_key: str = setting("", "the source's key that `weir send` uses", secret=True)
    gateway_url: str = setting(
        "", "the gateway that commands use; empty: the local one on `WEIR_GATEWAY_PORT`"
    )
    gateway_ca_file: Path | None = setting(
        None,
        "with https, the CA certificates (PEM) to verify the gateway with; empty: the system's",
        check=is_file,
    )
