"""The module that runs each service, by the name that `weir` and its metrics have for it."""

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
