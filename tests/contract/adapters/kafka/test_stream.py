"""A stream commits outputs, changelog and offsets together, in memory and on a real broker."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Protocol

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.running import RunningKafka, wait_until
from weir.adapters.kafka.admin import KafkaAdmin, Topic
from weir.adapters.kafka.clients import client_options, group_options, write_entries
from weir.adapters.kafka.stream import KafkaStream, StreamOptions
from weir.adapters.memory import MemoryLog, MemoryStream
from weir.core import topics
from weir.core.batch import Batch, Output
from weir.runtime.ports import (
    ChangelogReader,
    ChangelogRecord,
    FencedError,
    Stream,
    StreamBrokenError,
    Transaction,
)
from weir.settings.shared import KafkaSettings

PATIENCE = 30
PARTITIONS = 4


class Broker(Protocol):
    def write(self, topic: str, outputs: list[Output]) -> None: ...
    def read(self, topic: str) -> list[tuple[bytes, bytes]]: ...
    def stream(self) -> Stream: ...
    def name(self, topic: str) -> str: ...


class InMemory:
    """One partition, as the tests need no more."""

    def __init__(self) -> None:
        self.log = MemoryLog(1)

    def write(self, topic: str, outputs: list[Output]) -> None:
        self.log.write(topic, outputs)

    def read(self, topic: str) -> list[tuple[bytes, bytes]]:
        return [(record.key, record.value) for record in self.log.records(topic)]

    def stream(self) -> Stream:
        stream = MemoryStream(self.log, "group", "in")
        stream.assign({0})
        return stream

    def name(self, topic: str) -> str:
        return topic


def read_all(reader: ChangelogReader) -> list[ChangelogRecord]:
    found: list[ChangelogRecord] = []
    while reader.remaining():
        found += reader.poll(0.1)
    reader.close()
    return found


def read_committed(settings: KafkaSettings, topic: str) -> list[tuple[bytes, bytes]]:
    """What a reader gets of the topic's one partition, up to its end."""
    options = {"group.id": "reader", "enable.partition.eof": True}
    consumer = Consumer(client_options(settings) | options)
    consumer.assign([TopicPartition(topic, 0, 0)])
    records: list[tuple[bytes, bytes]] = []
    try:
        while True:
            message = consumer.poll(PATIENCE)
            assert message is not None, f"no end of {topic} within {PATIENCE} s"
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                return records
            records.append((message.key() or b"", message.value() or b""))
    finally:
        consumer.close()


class OnKafka:
    def __init__(self, settings: KafkaSettings, unique: Callable[[str], str]) -> None:
        self.settings = settings
        self.service = unique("service")
        self.name = unique
        admin = KafkaAdmin(settings)
        admin.create([Topic(unique(topic), 1, 1, {}) for topic in ("in", "out", "log")])
        admin.create(
            [Topic(name, PARTITIONS, 1, {}) for name in (unique("wide"), topics.POSITIONS)]
        )
        admin.close()

    def write(self, topic: str, outputs: list[Output]) -> None:
        write_entries(self.settings, self.name(topic), outputs)

    def read(self, topic: str) -> list[tuple[bytes, bytes]]:
        return read_committed(self.settings, self.name(topic))

    def stream(self, topic: str = "in", instance: int = 0) -> Stream:
        options = StreamOptions(self.service, self.name(topic), instance, session_seconds=6)
        return KafkaStream(self.settings, options)

    def committed(self) -> int:
        admin = KafkaAdmin(self.settings)
        place = (self.name("in"), 0)
        try:
            return admin.positions(f"weir.{self.service}", [place]).get(place, -1)
        finally:
            admin.close()

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient(client_options(self.settings))


@pytest.fixture(params=["memory", "kafka"])
def broker(request: pytest.FixtureRequest) -> Broker:
    if request.param == "memory":
        return InMemory()
    kafka: RunningKafka = request.getfixturevalue("kafka")
    settings = KafkaSettings(kafka_bootstrap=kafka.bootstrap)
    return OnKafka(settings, request.getfixturevalue("unique_name"))


@pytest.fixture
def open_stream(broker: Broker) -> Iterator[Callable[[], Stream]]:
    """Streams of one and the same instance; the last is closed in the end."""
    opened: list[Stream] = []

    def start() -> Stream:
        opened.append(broker.stream())
        return opened[-1]

    yield start
    opened[-1].close()


def begin(stream: Stream) -> int | None:
    """Wait for the partition and start it where the group left it; returns the committed position."""

    gained: dict[int, int | None] = {}

    def is_assigned() -> bool:
        assert stream.poll(0.1) == []
        gained.update(stream.assignment().gained)
        return 0 in gained

    wait_until(is_assigned, PATIENCE, "the partition to be assigned")
    stream.start(0)
    return gained[0]


def repeat(call: Callable[[], object]) -> None:
    """Until it raises; at most for as long as anything may take."""

    def returns() -> bool:
        call()
        return False

    wait_until(returns, PATIENCE, "what is expected")


def next_batch(stream: Stream) -> Batch:
    batches: list[Batch] = []

    def arrived() -> bool:
        batches.extend(stream.poll(0.2))
        return bool(batches)

    wait_until(arrived, PATIENCE, "records")
    return batches[0]


def test_a_batch_holds_records_in_order_with_partition_and_offsets(
    broker: Broker, open_stream: Callable[[], Stream]
) -> None:
    broker.write("in", [Output(b"k", b"1"), Output(b"l", b"2")])
    stream = open_stream()
    assert begin(stream) is None
    batch = next_batch(stream)
    assert (batch.partition, batch.offsets) == (0, [0, 1])
    assert (batch.keys, batch.values) == ([b"k", b"l"], [b"1", b"2"])
    assert batch.position == 2


def test_committed_outputs_are_readable_and_committed_records_are_not_reread(
    broker: Broker, open_stream: Callable[[], Stream]
) -> None:
    broker.write("in", [Output(b"k", b"1"), Output(b"l", b"2")])
    stream = open_stream()
    begin(stream)
    next_batch(stream)
    ends = stream.commit(
        Transaction(
            [(broker.name("out"), None, [Output(b"k", b"out")])],
            [(broker.name("log"), 0, [Output(b"a", b"1"), Output(b"b", b"2")])],
            {0: 2},
        )
    )
    assert ends == {0: 2}
    assert broker.read("out") == [(b"k", b"out")]
    assert read_all(stream.changelog(broker.name("log"), {0: 1})) == [(0, 1, b"b", b"2")]
    stream.close()
    again = open_stream()
    assert begin(again) == 2
    broker.write("in", [Output(b"m", b"3")])
    assert next_batch(again).values == [b"3"]


def test_uncommitted_records_are_read_again(
    broker: Broker, open_stream: Callable[[], Stream]
) -> None:
    broker.write("in", [Output(b"k", b"1")])
    stream = open_stream()
    begin(stream)
    next_batch(stream)
    stream.close()
    again = open_stream()
    assert begin(again) is None
    assert next_batch(again).values == [b"1"]


def test_a_recovered_stream_continues_from_the_committed_offset(
    broker: Broker, open_stream: Callable[[], Stream]
) -> None:
    broker.write("in", [Output(b"k", b"1"), Output(b"l", b"2")])
    stream = open_stream()
    begin(stream)
    next_batch(stream)
    stream.commit(Transaction([], [], {0: 1}))
    stream.recover()
    assert begin(stream) == 1
    assert next_batch(stream).values == [b"2"]
    stream.commit(Transaction([(broker.name("out"), 0, [Output(b"", b"after")])], [], {0: 2}))
    assert broker.read("out") == [(b"", b"after")]


def test_a_recovery_replaces_every_kafka_client(
    kafka: RunningKafka, unique_name: Callable[[str], str]
) -> None:
    """No stuck connection and no knowledge of brokers that are gone outlives a recovery."""
    stream = OnKafka(KafkaSettings(kafka_bootstrap=kafka.bootstrap), unique_name).stream()
    begin(stream)
    before = dict(vars(stream))
    stream.recover()
    clients = ("_reader", "_positions", "_member", "_transactions", "_consumer")
    assert [name for name in clients if vars(stream)[name] is before[name]] == []
    ours = {name for name, value in vars(stream).items() if is_of_edge(value)}
    assert ours == {*clients, "_options"}
    stream.close()


def is_of_edge(value: object) -> bool:
    return type(value).__module__.startswith(("weir.adapters", "cimpl", "confluent_kafka"))


def test_lag_is_zero_after_all_records_are_read(
    broker: Broker, open_stream: Callable[[], Stream]
) -> None:
    broker.write("in", [Output(b"k", b"1")])
    stream = open_stream()
    begin(stream)
    next_batch(stream)
    wait_until(lambda: stream.lag() == {0: 0}, PATIENCE, "no lag")


@pytest.fixture
def on_kafka(kafka: RunningKafka, unique_name: Callable[[str], str]) -> OnKafka:
    return OnKafka(KafkaSettings(kafka_bootstrap=kafka.bootstrap), unique_name)


def test_a_second_process_in_a_slot_fences_the_first_and_continues(on_kafka: OnKafka) -> None:
    on_kafka.write("in", [Output(b"k", b"1"), Output(b"l", b"2")])
    zombie = on_kafka.stream()
    begin(zombie)
    next_batch(zombie)
    successor = on_kafka.stream()
    begin(successor)
    assert next_batch(successor).values == [b"1", b"2"]
    output = (on_kafka.name("out"), 0, [Output(b"", b"zombie's")])
    with pytest.raises(
        FencedError
    ):  # and not an invitation to recover, which would end the successor
        zombie.commit(Transaction([output], [], {0: 1}))
    successor.commit(Transaction([(on_kafka.name("out"), 0, [Output(b"", b"mine")])], [], {0: 1}))
    assert on_kafka.read("out") == [(b"", b"mine")]
    successor.close()
    zombie.close()


def test_a_process_that_only_polls_is_fenced_by_its_successor(on_kafka: OnKafka) -> None:
    zombie = on_kafka.stream()
    begin(zombie)
    successor = on_kafka.stream()
    begin(successor)

    def is_fenced() -> bool:
        try:
            zombie.poll(0.1)
        except FencedError:
            return True
        return False

    wait_until(is_fenced, PATIENCE, "the zombie to be told")
    successor.close()
    zombie.close()


def test_a_stream_fenced_without_a_successor_recovers(on_kafka: OnKafka) -> None:
    """A member may be fenced by its own former id when the broker's answer with the new id is lost."""
    on_kafka.write("in", [Output(b"k", b"1")])
    stream = on_kafka.stream()
    begin(stream)
    service = on_kafka.service
    options = group_options(f"weir.{service}", f"weir-{service}-0", 6, 1_024)
    ghost = Consumer(client_options(on_kafka.settings) | options)
    ghost.subscribe([on_kafka.name("in")])

    def hears() -> None:
        ghost.poll(0.1)
        stream.poll(0.1)

    with pytest.raises(StreamBrokenError, match="fenced"):
        repeat(hears)
    ghost.close()
    stream.recover()
    begin(stream)
    assert next_batch(stream).values == [b"1"]
    stream.close()


def test_every_partition_is_owned_after_members_restart_within_a_rebalance(
    on_kafka: OnKafka,
) -> None:
    """Members restarted within the session timeout get the last assignment back, and it is complete."""
    members = [on_kafka.stream("wide", 0)]
    held: list[set[int]] = [set(), set()]

    def follow(count: int) -> None:
        for instance, member in enumerate(members[:count]):
            member.poll(0.05)
            gained, lost, _ = member.assignment()
            held[instance] = held[instance] - lost | set(gained)

    def all_are_held() -> bool:
        follow(2)
        return sorted(held[0]) + sorted(held[1]) == list(range(PARTITIONS))

    wait_until(all_are_held, PATIENCE, "the first to have all")
    members.append(on_kafka.stream("wide", 1))

    def gives_way() -> bool:
        follow(2)
        return held[0] != set(range(PARTITIONS))

    wait_until(gives_way, PATIENCE, "the rebalance")
    for member in members:
        member.close()

    members = [on_kafka.stream("wide", instance) for instance in (0, 1)]
    held = [set(), set()]
    wait_until(all_are_held, PATIENCE, "every partition to have its member")
    for member in members:
        member.close()


def write_three_and_commit(on_kafka: OnKafka, position: int) -> None:
    """Three records are there, and those before the position are settled."""
    on_kafka.write("in", [Output(b"k", b"1"), Output(b"l", b"2"), Output(b"m", b"3")])
    stream = on_kafka.stream()
    begin(stream)
    next_batch(stream)
    stream.commit(Transaction([], [], {0: position}))
    stream.close()


def test_a_stream_continues_from_its_committed_offset_after_its_group_is_deleted(
    on_kafka: OnKafka,
) -> None:
    write_three_and_commit(on_kafka, 2)

    def is_deleted() -> bool:  # the broker does so once the member's session is over
        (deleted,) = on_kafka.admin.delete_consumer_groups([f"weir.{on_kafka.service}"]).values()
        return deleted.exception() is None

    wait_until(is_deleted, PATIENCE, "the group to be deleted")
    again = on_kafka.stream()
    assert begin(again) == 2
    assert on_kafka.committed() == 2  # for those who watch its lag, before anything new is settled
    assert next_batch(again).values == [b"3"]
    again.close()


def make_anew(on_kafka: OnKafka) -> None:
    admin, name = on_kafka.admin, on_kafka.name("in")
    (deleted,) = admin.delete_topics([name]).values()
    deleted.result(PATIENCE)

    def is_made_anew() -> bool:
        (made,) = admin.create_topics([NewTopic(name, 1, 1)]).values()
        return made.exception() is None

    wait_until(is_made_anew, PATIENCE, "the topic")


def test_a_recreated_topic_is_read_from_its_beginning(on_kafka: OnKafka) -> None:
    write_three_and_commit(on_kafka, 2)
    make_anew(on_kafka)
    on_kafka.write("in", [Output(b"n", b"new"), Output(b"o", b"newer"), Output(b"p", b"newest")])
    again = on_kafka.stream()
    assert begin(again) is None
    assert next_batch(again).values == [b"new", b"newer", b"newest"]
    again.close()


def test_a_topic_recreated_while_being_read_is_read_from_its_beginning(on_kafka: OnKafka) -> None:
    """The stream detects it itself: the consumer reports nothing if the new topic is longer."""
    on_kafka.write("in", [Output(b"k", b"1")])
    stream = on_kafka.stream()
    begin(stream)
    stream.commit(Transaction([], [], {0: next_batch(stream).position}))
    make_anew(on_kafka)
    anew = [Output(b"n", number) for number in (b"a", b"b", b"c", b"d")]
    on_kafka.write("in", anew)
    with pytest.raises(StreamBrokenError):  # or the consumer was there before the records were
        stream.commit(Transaction([], [], {0: next_batch(stream).position}))
    stream.recover()
    assert begin(stream) is None
    read: list[bytes] = []
    while len(read) < len(anew):
        read += next_batch(stream).values
    assert read == [value for _, value in anew]
    stream.close()


def test_an_idle_stream_detects_that_its_topic_was_recreated(
    on_kafka: OnKafka,
) -> None:
    write_three_and_commit(on_kafka, 3)
    stream = on_kafka.stream()
    begin(stream)
    make_anew(on_kafka)

    def notices() -> bool:
        try:
            stream.poll(0.2)
        except StreamBrokenError as fault:
            return "created again" in str(fault)
        return False

    wait_until(notices, PATIENCE, "it to notice")
    stream.close()


def test_offsets_beyond_the_topics_end_are_logged_as_lost_and_reading_continues(
    on_kafka: OnKafka, capsys: pytest.CaptureFixture[str]
) -> None:
    write_three_and_commit(on_kafka, 7)
    again = on_kafka.stream()
    assert begin(again) == 3
    on_kafka.write("in", [Output(b"n", b"4")])
    assert next_batch(again).values == [b"4"]
    assert "the broker has lost" in capsys.readouterr().out
    again.close()


def test_records_deleted_before_being_read_are_skipped_and_logged(
    on_kafka: OnKafka, capsys: pytest.CaptureFixture[str]
) -> None:
    write_three_and_commit(on_kafka, 1)
    place = TopicPartition(on_kafka.name("in"), 0, 2)
    (deleted,) = on_kafka.admin.delete_records([place]).values()
    deleted.result(PATIENCE)
    again = on_kafka.stream()
    assert begin(again) == 1
    assert next_batch(again).values == [b"3"]
    assert "deleted before they were read" in capsys.readouterr().out
    again.close()
