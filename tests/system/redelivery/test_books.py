"""The books show replayed dead letters as recovered, and balance."""

import json
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.events import accepted
from tests.support.running import wait_until
from tests.support.running_weir import Row, RunningWeir, start_weir
from weir.adapters import avro
from weir.adapters.kafka.clients import write_entries
from weir.core import topics
from weir.core.identifiers import dedup_key
from weir.settings.shared import KafkaSettings

PATIENCE = 60
KEY = "faults-write-key"
BOOKS = (
    "SELECT sum(accepted), sum(stored), sum(dead), sum(recovered), sum(in_flight), sum(difference)"
    " FROM weir.books WHERE source = 'faults'"
)


@pytest.fixture(scope="module")
def weir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWeir]:
    """One of this module's own: its books are looked at whole."""
    running = start_weir(tmp_path_factory.mktemp("recovered"))
    try:
        yield running
    finally:
        assert running.stop() == 0, running.process.said()


def send(weir: RunningWeir, body: bytes) -> None:
    request = urllib.request.Request(
        f"{weir.gateway}/v1/events", body, {"Authorization": f"Bearer {KEY}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 202


def write(weir: RunningWeir, key: str, value: bytes) -> None:
    """As if the gateway had accepted it."""
    kafka = KafkaSettings(kafka_port=int(weir.environ["WEIR_KAFKA_PORT"]))
    write_entries(kafka, topics.ACCEPTED, [(dedup_key("faults", key), value)])


def balance(weir: RunningWeir) -> Row:
    weir.require_balanced_books("--ids")
    (row,) = weir.ask(BOOKS)
    return row


def letters(weir: RunningWeir, step: str) -> int:
    ((count,),) = weir.ask(f"SELECT count() FROM weir.dead FINAL WHERE step = '{step}'")
    return int(count)


def test_an_edited_and_replayed_dead_letter_counts_once_in_the_books(weir: RunningWeir) -> None:
    good = [{"event": "paid", "id": f"good-{n}", "properties": {"price": n}} for n in range(9)]
    send(weir, json.dumps(good).encode())
    # a number that the gateway would have refused: ClickHouse does
    bad = accepted(
        1,
        source="faults",
        workspace="faults",
        idempotency_key="bad",
        properties='{"price": 1e999}',
        received_at=time.time_ns() // 1_000_000,
    )
    write(weir, bad["idempotency_key"], avro.schemas()["Accepted"].encode(bad))
    wait_until(lambda: letters(weir, "sink") == 1, PATIENCE, "the letter")
    assert balance(weir) == (10, 9, 1, 0, 0, 0)
    for _ in range(2):  # the second finds nothing left to do
        result = weir.run("dead", "replay", "--step", "sink", "--set", "properties.price=12.5")
        assert result.returncode == 0, result.stdout + result.stderr
    assert balance(weir) == (10, 10, 0, 1, 0, 0)
    price = "SELECT properties.price FROM weir.events WHERE idempotency_key = 'bad'"
    assert weir.ask(price) == [(12.5,)]


def test_a_replayed_event_that_dies_again_counts_as_dead_once(weir: RunningWeir) -> None:
    before = balance(weir)
    write(weir, "garbage", b"garbage")
    wait_until(lambda: letters(weir, "dedup") == 1, PATIENCE, "the letter")
    result = weir.run("dead", "replay", "--step", "dedup")
    assert result.returncode == 0, result.stdout + result.stderr
    wait_until(lambda: letters(weir, "dedup") == 2, PATIENCE, "its second death")
    after = balance(weir)
    assert after[:4] == (before[0] + 1, before[1], before[2] + 1, before[3] + 1)
