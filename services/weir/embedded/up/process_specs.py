"""The processes of `weir up` as plain values: commands, settings, readiness probes and stop order."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from weir.core.service_modules import SERVICE_MODULES
from weir.core.stages import STAGES
from weir.embedded.ports import LOOPBACK, PortClaims
from weir.embedded.up.processes import ChildSpec
from weir.settings.embedded import UpSettings
from weir.settings.embedded_clickhouse import WarehouseSettings
from weir.settings.gateway import GatewaySettings
from weir.settings.shared import ClickHouseSettings, CommonSettings, KafkaSettings

# Stop order, first to last: no new events come in, the workers finish, then the stores end.
GATEWAY_TIER, WORKER_TIER, WAREHOUSE_TIER, BROKER_TIER = 4, 3, 2, 1
# Between SIGTERM and SIGKILL a child has time for its drain, plus this for the rest of its shutdown.
BEYOND_DRAIN_SECONDS = 15.0
ANY_HOST = {"0.0.0.0", "::", ""}


@dataclass(frozen=True)
class Programs:
    """The settings of `weir up`, and the processes that follow from them."""

    common: CommonSettings
    kafka: KafkaSettings
    clickhouse: ClickHouseSettings
    gateway: GatewaySettings
    warehouse_settings: WarehouseSettings
    up: UpSettings
    ports: PortClaims = field(default_factory=PortClaims)

    @property
    def folder(self) -> Path:
        return self.common.data_dir.resolve()

    @property
    def host(self) -> str:
        """Return the host under which this machine reaches its own services."""
        return LOOPBACK if self.common.host in ANY_HOST else self.common.host

    @property
    def gateway_url(self) -> str:
        return f"{self.gateway.scheme}://{self.host}:{self.gateway.gateway_port}"

    def require_ports(self) -> None:
        """Claim the services' ports. `LocalFaultError` names the first port that is taken."""
        host = self.common.host
        self.ports.require(self.gateway.gateway_port, "the gateway", "WEIR_GATEWAY_PORT", host)
        if not self.clickhouse.clickhouse_url:
            port = self.clickhouse.clickhouse_port
            self.ports.require(port, "ClickHouse", "WEIR_CLICKHOUSE_PORT", host)
        if not self.kafka.kafka_bootstrap:
            self.ports.require(self.kafka.kafka_port, "the Kafka broker", "WEIR_KAFKA_PORT")

    def broker(self) -> ChildSpec | None:
        """Return the embedded broker; None if the settings name a cluster."""
        if self.kafka.kafka_bootstrap:
            return None
        ready = f"kafka://{LOOPBACK}:{self.kafka.kafka_port}"
        return self._child("kafka", "Kafka broker", SERVICE_MODULES["kafka"], ready, BROKER_TIER)

    def warehouse(self) -> ChildSpec | None:
        """Return the embedded ClickHouse; None if the settings name a server."""
        if self.clickhouse.clickhouse_url:
            return None
        port = self.clickhouse.clickhouse_port
        ready = f"http://{self.host}:{port}/ping"
        module, title = SERVICE_MODULES["warehouse"], "ClickHouse"
        drain = self.warehouse_settings.warehouse_drain
        return self._child(
            "warehouse", title, module, ready, WAREHOUSE_TIER, metrics_port=port, drain=drain
        )

    def gateway_and_workers(self) -> list[ChildSpec]:
        """Return each worker instance with its own slot and port, the audit if enabled, and the gateway."""
        port = self.gateway.gateway_port
        ready = f"{self.gateway_url}/readyz"
        module = SERVICE_MODULES["gateway"]
        drain = self.gateway.gateway_drain_seconds
        gateway = self._child(
            "gateway", "gateway", module, ready, GATEWAY_TIER, metrics_port=port, drain=drain
        )
        return [*self._workers_and_audit(), gateway]

    def _workers_and_audit(self) -> list[ChildSpec]:
        counts = {
            **{stage.name: self.up.instances(stage.name) for stage in STAGES},
            "eraser": 1,
        }
        slots = [(name, slot) for name, count in counts.items() for slot in range(count)]
        audits = 1 if self.up.audit_seconds else 0
        ports = self.ports.take(self.up.metrics_base_port, len(slots) + audits, self.common.host)
        workers = [
            self._child(
                name,
                name,
                SERVICE_MODULES[name],
                f"http://{self.host}:{port}/readyz",
                WORKER_TIER,
                instance=slot,
                metrics_port=port,
                environ={"WEIR_INSTANCE": str(slot), "WEIR_METRICS_PORT": str(port)},
            )
            for (name, slot), port in zip(slots, ports, strict=False)
        ]
        return [*workers, *(self._audit(port) for port in ports[len(slots) :])]

    def _audit(self, port: int) -> ChildSpec:
        return self._child(
            "audit",
            "audit",
            "weir.cli.audit",
            f"http://{self.host}:{port}/readyz",
            GATEWAY_TIER,
            metrics_port=port,
            environ={"WEIR_METRICS_PORT": str(port)},
            arguments=("--watch", "--every", str(self.up.audit_seconds)),
        )

    def _child(
        self,
        name: str,
        title: str,
        module: str,
        ready: str,
        tier: int,
        *,
        instance: int = 0,
        metrics_port: int = 0,
        environ: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        drain: float = 0.0,
    ) -> ChildSpec:
        return ChildSpec(
            name,
            title,
            (sys.executable, "-m", module, *arguments),
            {"WEIR_DATA_DIR": str(self.folder), **(environ or {})},
            ready,
            tier,
            instance,
            metrics_port,
            drain + BEYOND_DRAIN_SECONDS,
        )
