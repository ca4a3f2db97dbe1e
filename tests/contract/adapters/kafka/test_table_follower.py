"""A tail follower hears every record committed after its start and nothing older or uncommitted."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from tests.support.running import RunningKafka, wait_until
from weir.adapters.kafka.admin import KafkaAdmin, Topic
from weir.adapters.kafka.clients import Entry, client_options, write_entries
from weir.adapters.kafka.table_follower import TailFollower
from weir.adapters.receipt_records import encode_receipt
from weir.core.receipts import Receipt
from weir.gateway.ingest.receipts import Receipts
from weir.settings.shared import KafkaSettings

Names = Callable[[str], str]
PATIENCE = 20


@pytest.fixture
def settings(kafka: RunningKafka) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap=kafka.bootstrap)


@pytest.fixture
def topic(settings: KafkaSettings, unique_name: Names) -> str:
    name = unique_name("receipts")
    admin = KafkaAdmin(settings)
    admin.create([Topic(name, 2, 1, {})])
    admin.close()
    return name


class Heard:
    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self.entries: list[Entry] = []
        self.follower = TailFollower(settings, topic, self.entries.extend)
        self.follower.start()

    def keys(self) -> set[bytes]:
        return {key for key, _ in self.entries}


@pytest.fixture
def heard(settings: KafkaSettings, topic: str) -> Iterator[Heard]:
    write_entries(settings, topic, [(bytes([n]), b"before") for n in range(10)])
    following = Heard(settings, topic)
    assert following.follower.following.wait(PATIENCE)
    yield following
    following.follower.stop()


def test_the_tail_follower_hears_only_records_written_after_its_start(
    settings: KafkaSettings, topic: str, heard: Heard
) -> None:
    later: list[Entry] = [(f"later-{n}".encode(), b"value") for n in range(10)]
    write_entries(settings, topic, later)
    wait_until(lambda: len(heard.entries) >= len(later), PATIENCE, "what was written later")
    assert sorted(heard.entries) == sorted(later)


def test_the_tail_follower_hears_a_transaction_open_at_its_start_once_committed(
    settings: KafkaSettings, topic: str, unique_name: Names
) -> None:
    producer = Producer(
        {**client_options(settings), "transactional.id": unique_name("worker"), "linger.ms": 0}
    )
    producer.init_transactions(PATIENCE)
    for key, commit in ((b"aborted", False), (b"committed", True)):
        producer.begin_transaction()
        producer.produce(topic, b"value", key, 0)
        producer.flush(PATIENCE)
        if not commit:
            producer.abort_transaction(PATIENCE)
    following = Heard(settings, topic)
    try:
        assert following.follower.following.wait(PATIENCE)
        producer.commit_transaction(PATIENCE)
        wait_until(lambda: following.entries, PATIENCE, "the committed record")
        assert following.keys() == {b"committed"}
    finally:
        following.follower.stop()


def test_a_waiting_request_receives_the_receipt_of_its_event(
    settings: KafkaSettings, topic: str
) -> None:
    receipt = Receipt(event_id=b"e" * 16, step="dedup", outcome="duplicate", received_at=1)

    async def request() -> dict[bytes, Receipt]:
        loop, receipts = asyncio.get_running_loop(), Receipts()

        def hand_over(entries: list[Entry]) -> None:
            loop.call_soon_threadsafe(receipts.apply, entries)

        follower = TailFollower(settings, topic, hand_over)
        follower.start()
        try:
            assert await asyncio.to_thread(follower.following.wait, PATIENCE)
            with receipts.expect([receipt.event_id]) as waiting:
                written = [encode_receipt(receipt)]
                await asyncio.to_thread(write_entries, settings, topic, written)
                return await waiting.wait(PATIENCE)
        finally:
            follower.stop()

    assert asyncio.run(request()) == {receipt.event_id: receipt}
