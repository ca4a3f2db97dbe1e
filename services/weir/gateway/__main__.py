"""`python -m weir.gateway`: run the HTTP gateway."""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from weir.gateway.http.tls import Tls, tls_of
from weir.gateway.processes import run_together
from weir.runtime import logs, process
from weir.settings.catalogue import require_known_variables
from weir.settings.environment import (
    SettingsError,
    flag,
    flags_of,
    load,
    variable,
)
from weir.settings.gateway import GatewaySettings
from weir.settings.shared import (
    ClickHouseSettings,
    CommonSettings,
    KafkaSettings,
    SecretsSettings,
)

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus-client adds up the processes


@dataclass(frozen=True)
class GatewayEnvironment:
    """The settings that the gateway reads."""

    common: CommonSettings
    kafka: KafkaSettings
    secrets: SecretsSettings
    clickhouse: ClickHouseSettings
    gateway: GatewaySettings
    tls: Tls | None  # None: plain HTTP


def read_environment() -> GatewayEnvironment:
    """Read all settings. `SettingsError` if there are unknown variables, or faults in a class of settings."""
    require_known_variables(os.environ)
    gateway = load(GatewaySettings, os.environ)
    return GatewayEnvironment(
        load(CommonSettings, os.environ),
        load(KafkaSettings, os.environ),
        load(SecretsSettings, os.environ),
        load(ClickHouseSettings, os.environ),
        gateway,
        tls_of(gateway),
    )


def serve(environment: GatewayEnvironment) -> None:
    """Run one process until SIGTERM."""
    # Import these only after METRICS_FOLDER is set, and not in the parent of several processes: see run_all.
    import uvloop

    from weir.adapters.kafka.access import KafkaDeniedError, require_access
    from weir.gateway.server import Listening, Process, listen
    from weir.registry.secret_encryption import SecretEncryption, secrets_keys

    host, settings = environment.common.host, environment.gateway
    keys = secrets_keys(environment.common, environment.kafka, environment.secrets)
    sealing = SecretEncryption(keys)

    try:
        require_access(environment.kafka)
    except KafkaDeniedError as denial:
        sys.exit(f"The gateway cannot start: {denial}")

    async def run() -> str:
        shared = settings.gateway_processes > 1
        bound = listen(host, settings.gateway_port, shared)
        listening = Listening(bound, environment.tls)
        process = Process(settings, environment.kafka, environment.clickhouse, sealing, listening)
        await process.run()
        return process.fault

    try:
        if fault := uvloop.run(run()):
            sys.exit(f"The gateway ended: {fault}")
    except OSError as fault:
        place = f"{host}:{settings.gateway_port}"
        sys.exit(
            f"The gateway cannot listen on {place}: {fault.strerror}; set WEIR_GATEWAY_PORT to a"
            " free port, or stop the program that uses this one."
        )
    except Exception:  # noqa: BLE001  # the only such place: log the fault with its traceback and end
        logs.get("gateway").exception("ended by a fault")
        sys.exit(1)


def run_all(environment: GatewayEnvironment) -> None:
    """Run the configured number of processes; a single process needs no parent."""
    processes = environment.gateway.gateway_processes
    if processes == 1:
        serve(environment)
        return
    with tempfile.TemporaryDirectory(prefix="weir-gateway-") as folder:
        os.environ[METRICS_FOLDER] = folder
        code = run_together(processes, lambda: serve(environment))
    sys.exit(code)


def main() -> None:
    process.begin("gateway")
    try:
        environment = read_environment()
    except SettingsError as fault:
        sys.exit("\n".join(fault.faults))
    process.configure(environment.common, "gateway")
    run_all(environment)


def take_flags(arguments: Sequence[str]) -> None:
    """Write the values of the flags to the environment, where they replace existing values."""
    parser = argparse.ArgumentParser("weir.gateway", description=__doc__)
    for field, meaning in flags_of(GatewaySettings).items():
        parser.add_argument(flag(field), help=meaning, metavar="N")
    for field, text in vars(parser.parse_args(arguments)).items():
        if text is not None:
            os.environ[variable(field)] = text


if __name__ == "__main__":
    take_flags(sys.argv[1:])
    main()
