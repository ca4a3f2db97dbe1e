"""Three brokers on this machine that are one Kafka cluster, each a process that a test may kill."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, DescribeClusterResult

from tests.support.running import RunningProcess, free_ports, start_process, wait_until
from weir.embedded.kafka.broker import Broker, new_cluster_id
from weir.embedded.kafka.class_archive import class_archive
from weir.embedded.kafka.kafka_download import resolve_jars
from weir.embedded.kafka.toolchain import find_java
from weir.embedded.ports import LOOPBACK

NODES = (1, 2, 3)
HEAP_MEGABYTES = 256
ANSWER_SECONDS = 120.0
# Three replicas, of which two have to have a record: as in production.
SAFE = {
    "default.replication.factor": 3,
    "min.insync.replicas": 2,
    "offsets.topic.replication.factor": 3,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
}


class RunningCluster:
    """Brokers that are controllers as well. What a node has written outlives its process."""

    def __init__(self, folder: Path) -> None:
        """Every node answers and knows the others on return."""
        ports = free_ports(2 * len(NODES))
        brokers, controllers = ports[: len(NODES)], ports[len(NODES) :]
        voters = ",".join(
            f"{node}@{LOOPBACK}:{port}" for node, port in zip(NODES, controllers, strict=True)
        )
        self.bootstrap = ",".join(f"{LOOPBACK}:{port}" for port in brokers)
        java, jars = find_java(), asyncio.run(resolve_jars())
        classes = class_archive(java, jars)
        self._brokers = {
            node: Broker(
                java, jars, folder / f"kafka-{node}", port, controller, HEAP_MEGABYTES, classes
            )
            for node, port, controller in zip(NODES, brokers, controllers, strict=True)
        }
        self.processes: dict[int, RunningProcess] = {}
        cluster_id = new_cluster_id()
        for node, broker in self._brokers.items():
            broker.write_properties()
            own = {"node.id": node, "controller.quorum.voters": voters}
            with broker.properties.open("a") as file:  # of a name given twice the last counts
                file.writelines(f"{name}={value}\n" for name, value in (SAFE | own).items())
        with ThreadPoolExecutor(len(NODES)) as pool:
            list(pool.map(lambda broker: broker.format(cluster_id), self._brokers.values()))
        try:
            for node in NODES:
                self.start(node)
            self.wait_for_all()
        except BaseException:
            self.kill(*NODES)
            raise

    def start(self, *nodes: int) -> None:
        """Started on return: see `wait_for_all`."""
        for node in nodes:
            broker = self._brokers[node]
            log = broker.folder.with_suffix(".log")
            self.processes[node] = start_process(broker.command(), log)

    def kill(self, *nodes: int) -> None:
        """kill -9; ended on return."""
        for node in nodes:
            if node in self.processes:
                self.processes[node].kill()

    def stop(self, node: int) -> None:
        """Ended in order, by an operator: SIGTERM. It hands over to the others, which have to be there."""
        self.processes[node].stop(ANSWER_SECONDS)

    def revive(self) -> None:
        """Nodes that have ended are started again."""
        self.start(*(node for node, process in self.processes.items() if not process.running))

    def wait_for_all(self) -> None:
        """Every node is a member of the cluster on return, and every partition has all its replicas."""
        admin = AdminClient(
            {"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 500}
        )

        def is_whole() -> bool:
            for node, process in self.processes.items():
                if not process.running:
                    raise RuntimeError(f"broker {node} ended:\n{process.said()[-4_000:]}")
            try:
                described: DescribeClusterResult = admin.describe_cluster(request_timeout=5).result(
                    10
                )
                topics = admin.list_topics(timeout=5).topics.values()
            except KafkaException:
                return False
            partitions = [p for topic in topics for p in topic.partitions.values()]
            return len(described.nodes) == len(NODES) and all(
                len(p.isrs) == len(p.replicas) for p in partitions
            )

        wait_until(is_whole, ANSWER_SECONDS, "three brokers to be one cluster")
