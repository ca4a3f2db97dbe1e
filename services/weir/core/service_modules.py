"""The module that runs each service, by the service's name in the `weir` command and in metrics."""

from weir.core.stages import STAGES

SERVICE_MODULES = {
    "gateway": "weir.gateway",
    **{stage.name: f"weir.{stage.name}" for stage in STAGES},
    "eraser": "weir.erasure",
    "warehouse": "weir.embedded.clickhouse",
    "kafka": "weir.embedded.kafka",
    "up": "weir.embedded.up",
}
