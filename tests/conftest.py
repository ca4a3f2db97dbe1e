"""Fixtures for every suite: one real broker a session, started when the first test asks for it."""

import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import profiles
from tests.running import RunningKafka, start_kafka

FOLDER = Path(__file__).parent
assert profiles.chosen() in profiles.SHARES, f"no such profile: {profiles.chosen()}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="Repeat what a random test did: it prints its seed.")


# The files that take longest, in this order: files run side by side, and what begins last must be short.
LONGEST = (
    "system/test_full_disk.py",
    "system/test_cluster.py",
    "system/test_drill.py",
    "fuzz/test_fuzz.py",
    "system/test_erasure.py",
    "system/test_letters.py",
    "system/test_rolling_upgrade.py",
    "system/test_replay_accepted.py",
    "contract/test_sink.py",
    "contract/test_worker.py",
    "contract/test_warehouse.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the order within a file stays."""
    places = {str(FOLDER / name): place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(str(item.path), len(places)))


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """What chance is made of in this session; print it, so that whoever sees a failure can repeat it."""
    given: int | None = request.config.getoption("--seed")
    return random.SystemRandom().randrange(1 << 30) if given is None else given


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
