"""One real gateway for the session, and readers of what it writes."""

from collections.abc import Iterator

import pytest

from tests.support.migrated_tables import Tables, migrated_tables
from tests.support.running import RunningKafka, ending_well, wait_until
from tests.support.running_gateway import (
    CONTRACT,
    KEY,
    RunningGateway,
    TopicReader,
    declare,
    make_topics,
    start_gateway,
)
from tests.support.running_warehouse import RunningWarehouse, start_warehouse
from weir.core import topics


@pytest.fixture(scope="session")
def gateway(
    kafka: RunningKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    make_topics(kafka.bootstrap)
    declare(
        kafka.bootstrap,
        KEY,
        CONTRACT,
    )
    running = start_gateway(
        kafka.bootstrap,
        tmp_path_factory.mktemp("gateway"),
        WEIR_INGEST_RATE="5",
        WEIR_INGEST_BURST="3",
        WEIR_GATEWAY_BODY_SECONDS="2",
        WEIR_TRUSTED_PROXIES="127.0.0.1",
    )
    with ending_well(running.process):
        wait_until(lambda: running.knows(KEY), 10, "the source")
        yield running


@pytest.fixture(scope="session")
def accepted(gateway: RunningGateway) -> Iterator[TopicReader]:
    reader = TopicReader(gateway.kafka.bootstrap(), topics.ACCEPTED)
    yield reader
    reader.close()


@pytest.fixture(scope="session")
def rejected(gateway: RunningGateway) -> Iterator[TopicReader]:
    reader = TopicReader(gateway.kafka.bootstrap(), topics.REJECTED)
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWarehouse]:
    """One real engine for a module."""
    running = start_warehouse(tmp_path_factory.mktemp("warehouse"))
    yield running
    running.stop()


@pytest.fixture
def own_tables(warehouse: RunningWarehouse) -> Iterator[Tables]:
    """A migrated database of the test's own, for one that changes more than rows."""
    with migrated_tables(warehouse.url) as made:
        yield made


@pytest.fixture(scope="module")
def migrated(warehouse: RunningWarehouse) -> Iterator[Tables]:
    with migrated_tables(warehouse.url) as made:
        yield made


@pytest.fixture
def tables(migrated: Tables) -> Iterator[Tables]:
    """A migrated database without rows; migrations cost more than most tests, so a module has one."""
    yield migrated
    migrated.empty()
