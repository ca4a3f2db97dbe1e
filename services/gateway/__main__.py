"""`python -m services.gateway`: the door of the house."""

import os
import sys

from services.gateway.config import GatewaySettings
from services.runtime import logs
from services.runtime.config import CommonSettings, KafkaSettings
from services.runtime.settings import SettingsError, load, unknown_variables
from services.settings import ALL_SETTINGS


def read_environment() -> tuple[CommonSettings, KafkaSettings, GatewaySettings]:
    faults = unknown_variables(os.environ, ALL_SETTINGS)
    if faults:
        raise SettingsError(faults)
    return (
        load(CommonSettings, os.environ),
        load(KafkaSettings, os.environ),
        load(GatewaySettings, os.environ),
    )


def serve(common: CommonSettings, kafka: KafkaSettings, settings: GatewaySettings) -> None:
    """One process until SIGTERM. Imported here: prometheus-client looks at the environment once."""
    import uvloop

    from services.gateway.serving import Process, listen

    shared = settings.gateway_processes > 1

    async def run() -> str:
        process = Process(settings, kafka, listen(common.host, settings.gateway_port, shared))
        await process.run()
        return process.fault

    if fault := uvloop.run(run()):
        sys.exit(f"ended: {fault}")


def main() -> None:
    try:
        common, kafka, settings = read_environment()
        logs.configure(common.log_level, common.log_format)
    except SettingsError as fault:
        sys.exit("\n".join(fault.faults))
    try:
        serve(common, kafka, settings)
    except OSError as fault:
        sys.exit(
            f"The gateway cannot listen on {common.host}:{settings.gateway_port}: {fault.strerror}."
        )
    except Exception:  # noqa: BLE001  # the one place: log it whole and end
        logs.get("gateway").exception("ended by a fault")
        sys.exit(1)


if __name__ == "__main__":
    main()
