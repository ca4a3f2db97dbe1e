"""Prometheus metrics of the embedded ClickHouse, a closed set."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # kind: read | write | insert; outcome: ok | error | cancelled
        self.requests = Counter(
            "weir_warehouse_requests",
            "Statements by kind and outcome",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "weir_warehouse_request_seconds",
            "Seconds from request to answer, waiting included",
            ["kind"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.errors = Counter(
            "weir_warehouse_errors", "Errors by ClickHouse's code", ["code"], registry=self.registry
        )
        self.inserted_bytes = Counter(
            "weir_warehouse_inserted_bytes",
            "Payload of inserts, decompressed",
            registry=self.registry,
        )
        self.running = Gauge(
            "weir_warehouse_running", "Running statements", ["lane"], registry=self.registry
        )
        self.waiting = Gauge(
            "weir_warehouse_waiting", "Waiting statements", ["lane"], registry=self.registry
        )
