"""Fixtures for every suite: one real broker a session, started when the first test asks for it."""

import uuid
from collections.abc import Callable, Iterator

import pytest

from tests.running import RunningKafka, start_kafka


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKafka]:
    """One broker for the session. Tests share it: use topics, groups and transactional ids of your own."""
    running = start_kafka(tmp_path_factory.mktemp("kafka"))
    yield running
    running.stop()


@pytest.fixture
def unique_name(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Names for topics, groups and transactional ids that no other test has: `unique_name("in")`."""
    mark = uuid.uuid4().hex[:8]
    test = request.node.originalname[:40]
    return lambda name: f"{test}.{mark}.{name}"
