"""The embedded broker's settings and command lines: one node, loopback only, small and quick to start."""

import base64
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from weir.core.resource_paths import DEPLOY
from weir.embedded.errors import LocalFaultError
from weir.embedded.ports import LOOPBACK

NODE_ID = 1
MIB = 1024 * 1024
LOG4J = DEPLOY / "kafka" / "log4j2.xml"

# Settings of every embedded broker. One node: one replica, and few partitions of the internal
# topics, because each partition costs time at start.
FIXED = {
    "process.roles": "broker,controller",
    "node.id": NODE_ID,
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    # topics are declared in deploy/topics.yaml; a typo must not create one
    "auto.create.topics.enable": "false",
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "unclean.leader.election.enable": "false",
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 8,
    "offsets.retention.minutes": 60 * 24 * 365,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 8,
    # a killed worker's open transaction blocks readers until the broker notices that it has timed out
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 2_000,
    # groups form at once: there are not many members to wait for
    "group.initial.rebalance.delay.ms": 0,
    "group.consumer.min.heartbeat.interval.ms": 500,
    "group.consumer.heartbeat.interval.ms": 1_000,
    "group.consumer.min.session.timeout.ms": 6_000,
    "group.consumer.session.timeout.ms": 10_000,
    "message.max.bytes": 8 * MIB,
    "replica.fetch.max.bytes": 8 * MIB,
    "log.cleaner.threads": 1,
    "log.cleaner.dedupe.buffer.size": 32 * MIB,
    "num.network.threads": 2,
    "num.io.threads": 2,
    "num.recovery.threads.per.data.dir": 2,
    "group.coordinator.threads": 1,
    # fewer records in the metadata log while idle; otherwise it gets two a second
    "metadata.max.idle.interval.ms": 5_000,
}


def new_cluster_id() -> str:
    # starts with a letter, because an id that begins with a dash would be read as an option
    return "w" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]


@dataclass(frozen=True)
class Broker:
    """One embedded broker: its Java, jars, folder, ports and heap size."""

    java: str
    jars: Path
    folder: Path
    port: int
    controller_port: int
    heap_megabytes: int
    # loaded classes, kept on disk (see class_archive.py); a Java that they do not fit ignores them
    classes: Path | None = None

    @property
    def properties(self) -> Path:
        return self.folder / "server.properties"

    def write_properties(self) -> None:
        """Write the properties file; it is rewritten at each start."""
        addresses = {
            "listeners": f"BROKER://{LOOPBACK}:{self.port},"
            f"CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": f"BROKER://{LOOPBACK}:{self.port}",
            # static voters: their address is not stored in the log, so the port may change
            "controller.quorum.voters": f"{NODE_ID}@{LOOPBACK}:{self.controller_port}",
            "log.dirs": self.folder / "log",
        }
        lines = [f"{name}={value}" for name, value in (FIXED | addresses).items()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.properties.write_text("\n".join(lines) + "\n")

    def format(self, cluster_id: str = "") -> None:
        """Format the log folder with `cluster_id`, or a new id; leave a formatted folder unchanged."""
        if (self.folder / "log" / "meta.properties").exists():
            return
        cluster_id = cluster_id or new_cluster_id()
        arguments = ["format", "-t", cluster_id, "-c", str(self.properties)]
        command = self._java("kafka.tools.StorageTool", "-XX:TieredStopAtLevel=1", "-Xmx128m")
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise LocalFaultError(f"Kafka could not format {self.folder / 'log'}:\n{said}")

    def command(self, *options: str) -> list[str]:
        """Return the command that runs the broker in the foreground; SIGTERM shuts it down cleanly."""
        return [*self._java("kafka.Kafka", *self._tuning(), *options), str(self.properties)]

    def _tuning(self) -> tuple[str, ...]:
        """Return JVM options for a broker that runs for minutes on two cores.

        Compared with C2 and G1: a single produce costs 160 instead of 370 µs of CPU and is
        acknowledged sooner; 300,000 records at once cost the same CPU per record; the start costs 2
        instead of 3.5 s of CPU; memory is 140 MB less.
        """
        return (
            f"-Xmx{self.heap_megabytes}m",
            "-Xms128m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-XX:+ExitOnOutOfMemoryError",
        )

    def _java(self, main: str, *options: str) -> list[str]:
        sharing = [f"-XX:SharedArchiveFile={self.classes}", "-Xlog:cds=off"] if self.classes else []
        return [
            self.java,
            *sharing,
            *options,
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={LOG4J}",
            "-cp",
            f"{self.jars}/*",
            main,
        ]
