"""The embedded broker keeps the promises that Weir builds on."""

import gc
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.running import RunningKafka, bare_environ, free_port, start_kafka, wait_until
from weir.adapters.kafka.admin import KafkaAdmin, Topic
from weir.embedded.kafka.broker import Broker
from weir.embedded.kafka.class_archive import class_archive
from weir.embedded.kafka.kafka_download import jars_folder
from weir.embedded.kafka.toolchain import find_java
from weir.embedded.readiness import is_ready
from weir.settings.shared import KafkaSettings

Names = Callable[[str], str]


def make_topic(kafka: RunningKafka, name: str, partitions: int = 1) -> str:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for created in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        created.result(10)
    return name


def consumer(kafka: RunningKafka, group: str, **options: object) -> Consumer:
    base = {
        "bootstrap.servers": kafka.bootstrap,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
    }
    return Consumer(base | options)


def read(reader: Consumer, count: int) -> list[bytes]:
    values: list[bytes] = []

    def enough() -> bool:
        for record in reader.consume(100, 0.1):
            assert record.error() is None
            values.append(record.value() or b"")
        return len(values) >= count

    wait_until(enough, 20, f"{count} records")
    return values


def test_an_acknowledged_record_survives_kill_9_of_the_broker(tmp_path: Path) -> None:
    kafka = start_kafka(tmp_path)
    try:
        topic = make_topic(kafka, "kept")
        acknowledged: list[KafkaError | None] = []
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "acks": "all"})
        producer.produce(topic, b"value", on_delivery=lambda error, _: acknowledged.append(error))
        assert producer.flush(10) == 0
        assert acknowledged == [None]
    finally:
        kafka.kill()

    again = start_kafka(tmp_path)
    try:
        reader = consumer(again, "reader")
        reader.assign([TopicPartition(topic, 0, 0)])
        assert read(reader, 1) == [b"value"]
        reader.close()
    finally:
        assert again.stop() == 143  # what a JVM says after a clean end by SIGTERM


def test_the_broker_loads_its_classes_from_the_class_archive(tmp_path: Path) -> None:
    java, jars = find_java(), jars_folder()
    classes = class_archive(java, jars)
    assert classes is not None
    broker = Broker(java, jars, tmp_path, free_port(), free_port(), 128, classes)
    *command, _ = broker.command("-Xlog:class+load:stdout")
    said = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert "kafka.Kafka source: shared objects file (top)" in said


def test_an_open_admin_client_works_after_the_broker_is_killed_and_restarted(
    tmp_path: Path,
) -> None:
    """The client recovers although its request is first refused for an outdated leader epoch."""
    kafka = start_kafka(tmp_path)
    try:
        made = Topic("kept", 4, 1)
        with closing(KafkaAdmin(KafkaSettings(kafka_bootstrap=kafka.bootstrap))) as admin:
            admin.create([made])
            assert admin.record_counts([made]) == {"kept": 0}
            kafka.kill()
            kafka = start_kafka(tmp_path, kafka.port)
            assert admin.record_counts([made]) == {"kept": 0}
    finally:
        kafka.kill()


def test_consumers_read_committed_transactions_and_skip_aborted_ones(
    kafka: RunningKafka, unique_name: Names
) -> None:
    topic = make_topic(kafka, unique_name("out"))
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": unique_name("producer")}
    )
    producer.init_transactions(20)
    for value, commit in ((b"first", True), (b"aborted", False), (b"second", True)):
        producer.begin_transaction()
        producer.produce(topic, value)
        if commit:
            producer.commit_transaction(20)
        else:
            producer.flush(10)
            producer.abort_transaction(20)
    reader = consumer(kafka, unique_name("reader"))
    reader.assign([TopicPartition(topic, 0, 0)])
    assert read(reader, 2) == [b"first", b"second"]
    reader.close()


def test_offsets_with_metadata_commit_inside_a_transaction(
    kafka: RunningKafka, unique_name: Names
) -> None:
    topic = make_topic(kafka, unique_name("in"))
    reader = consumer(kafka, unique_name("group"), **{"group.protocol": "consumer"})
    reader.subscribe([topic])
    wait_until(lambda: reader.poll(0.1) is not None or reader.assignment(), 20, "the assignment")
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": unique_name("producer")}
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    place = TopicPartition(topic, 0, 7, "up to 9")
    producer.send_offsets_to_transaction([place], reader.consumer_group_metadata(), 20)
    producer.commit_transaction(20)
    (found,) = reader.committed([TopicPartition(topic, 0)], timeout=20)
    assert (found.offset, found.metadata) == (7, "up to 9")
    reader.close()


def test_group_members_share_partitions_and_take_over_those_of_a_leaver(
    kafka: RunningKafka, unique_name: Names
) -> None:
    topic = make_topic(kafka, unique_name("shared"), partitions=4)
    group = unique_name("group")
    first = consumer(kafka, group, **{"group.protocol": "consumer"})
    second = consumer(kafka, group, **{"group.protocol": "consumer"})

    def shares(*wanted: int) -> bool:
        first.poll(0.05)
        second.poll(0.05)
        return tuple(len(member.assignment()) for member in (first, second)) == wanted

    first.subscribe([topic])
    wait_until(lambda: first.poll(0.1) is None and len(first.assignment()) == 4, 20, "all four")
    second.subscribe([topic])
    wait_until(lambda: shares(2, 2), 20, "two each")
    first.close()
    wait_until(lambda: second.poll(0.1) is None and len(second.assignment()) == 4, 20, "all four")
    second.close()


def test_producing_to_an_unknown_topic_fails_instead_of_creating_it(
    kafka: RunningKafka, unique_name: Names
) -> None:
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "topic.metadata.propagation.max.ms": 500}
    )
    refused: list[KafkaError | None] = []
    producer.produce(unique_name("none"), b"x", on_delivery=lambda error, _: refused.append(error))
    assert producer.flush(20) == 0
    assert refused[0] is not None
    assert refused[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_a_closed_admin_client_leaves_no_thread_and_no_socket(
    kafka: RunningKafka,
) -> None:
    """It is freed at once, without garbage collection: a gateway creates one for every search."""

    def administer() -> tuple[int, int]:
        admin = KafkaAdmin(KafkaSettings(kafka_bootstrap=kafka.bootstrap))
        admin.topics(False)
        admin.close()
        del admin
        return me.num_threads(), me.num_fds()

    me = psutil.Process()
    gc.collect()
    gc.disable()
    try:
        first = administer()
        assert {administer() for _ in range(5)} == {first}
    finally:
        gc.enable()


async def test_the_running_broker_passes_the_readiness_check(kafka: RunningKafka) -> None:
    assert await is_ready(f"kafka://{kafka.bootstrap}")


def test_the_broker_listens_on_loopback_only(kafka: RunningKafka) -> None:
    hosts = {
        connection.laddr.ip.removeprefix("::ffff:")
        for connection in psutil.Process(kafka.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert hosts == {"127.0.0.1"}


def foreground(folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "weir.embedded.kafka.__main__"],
        env=bare_environ(WEIR_DATA_DIR=str(folder), WEIR_KAFKA_PORT=str(port)),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_broker_exits_with_a_one_line_message_when_its_port_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = foreground(tmp_path, port)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"Port {port}, meant for the Kafka broker, is in use: stop what listens there, "
        "or set WEIR_KAFKA_PORT to another port.\n"
    )


def test_the_broker_exits_with_a_one_line_message_when_its_folder_is_in_use(
    kafka: RunningKafka,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    ended = foreground(kafka.log.parent, free)
    assert ended.returncode == 1
    assert f"is in use by process {kafka.pid}" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_record_counts_of_topics_created_a_moment_ago_are_available(
    kafka: RunningKafka, unique_name: Names
) -> None:
    """The admin client waits until the new partitions have leaders."""
    made = [Topic(unique_name(f"new{n}"), 24, 1) for n in range(4)]
    with closing(KafkaAdmin(KafkaSettings(kafka_bootstrap=kafka.bootstrap))) as admin:
        admin.create(made)
    with closing(KafkaAdmin(KafkaSettings(kafka_bootstrap=kafka.bootstrap))) as another:
        assert another.record_counts(made) == {topic.name: 0 for topic in made}
