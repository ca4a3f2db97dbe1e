"""`python -m services.gateway`: the door of the house."""

import os
import sys
import tempfile

from services.gateway.config import GatewaySettings
from services.gateway.processes import run_together
from services.runtime import logs
from services.runtime.config import CommonSettings, KafkaSettings
from services.runtime.settings import SettingsError, load, unknown_variables
from services.settings import ALL_SETTINGS

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus-client adds processes up


def read_environment() -> tuple[CommonSettings, KafkaSettings, GatewaySettings]:
    """Every setting at once, or `SettingsError` with every fault, unknown variables included."""
    if faults := unknown_variables(os.environ, ALL_SETTINGS):
        raise SettingsError(faults)
    return (
        load(CommonSettings, os.environ),
        load(KafkaSettings, os.environ),
        load(GatewaySettings, os.environ),
    )


def serve(common: CommonSettings, kafka: KafkaSettings, settings: GatewaySettings) -> None:
    """One process, until SIGTERM."""
    # Not before METRICS_FOLDER is set, and not in the parent of several: see run_all.
    import uvloop

    from services.gateway.serving import Process, listen

    async def run() -> str:
        shared = settings.gateway_processes > 1
        process = Process(settings, kafka, listen(common.host, settings.gateway_port, shared))
        await process.run()
        return process.fault

    try:
        if fault := uvloop.run(run()):
            sys.exit(f"The gateway ended: {fault}")
    except OSError as fault:
        place = f"{common.host}:{settings.gateway_port}"
        sys.exit(
            f"The gateway cannot listen on {place}: {fault.strerror}; set WEIR_GATEWAY_PORT to a"
            " free port, or end what uses this one."
        )
    except Exception:  # noqa: BLE001  # the one place: log it whole and end
        logs.get("gateway").exception("ended by a fault")
        sys.exit(1)


def run_all(common: CommonSettings, kafka: KafkaSettings, settings: GatewaySettings) -> None:
    """As many processes as asked for; one needs no parent."""
    if settings.gateway_processes == 1:
        serve(common, kafka, settings)
        return
    with tempfile.TemporaryDirectory(prefix="weir-gateway-") as folder:
        os.environ[METRICS_FOLDER] = folder
        code = run_together(settings.gateway_processes, lambda: serve(common, kafka, settings))
    sys.exit(code)


def main() -> None:
    try:
        common, kafka, settings = read_environment()
        logs.configure(common.log_level, common.log_format)
    except SettingsError as fault:
        sys.exit("\n".join(fault.faults))
    run_all(common, kafka, settings)


if __name__ == "__main__":
    main()
