"""The module that runs each service, by the service's name in the `weir` command and in metrics."""

SERVICE_MODULES = {
    "gateway": "weir.gateway",
    "dedup": "weir.dedup",
    "identity": "weir.identity",
    "rates": "weir.rates",
    "sink": "weir.sink",
    "eraser": "weir.erasure",
    "warehouse": "weir.embedded.clickhouse",
    "kafka": "weir.embedded.kafka",
    "up": "weir.embedded.up",
}
