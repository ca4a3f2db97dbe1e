"""Fixtures for every suite: one real broker a session, started when the first test asks for it."""

import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from tests.support import profiles
from tests.support.running import RunningKafka, empty_broker, start_kafka

FOLDER = Path(__file__).parent
assert profiles.chosen() in profiles.SHARES, f"no such profile: {profiles.chosen()}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="Repeat what a random test did: it prints its seed.")


# Files begin in this order. A worker is given its next file while it runs the last test of one, so behind
# each file with a single long test stands a short one.
FIRST = (
    "system/embedded/up/test_full_disk.py",
    "drill/test_cluster.py",
    "drill/test_drill.py",
    "system/docs/test_analyst_queries.py",
    "contract/backfill/test_exclusive_lease.py",
    "contract/adapters/kafka/test_group_progress.py",
    "contract/backfill/test_scratch.py",
    "fuzz/test_fuzz.py",
    "system/erasure/test_erasure.py",
    "system/redelivery/test_replay.py",
    "system/runtime/test_rolling_upgrade.py",
    "system/backfill/test_accepted.py",
    "contract/sink/test_sink.py",
    "contract/runtime/test_worker.py",
    "contract/embedded/test_warehouse.py",
    "system/runtime/test_killed_processes.py",
)
# Files that share one running Weir: they run in one worker, so that only one is started.
SHARING_A_WEIR = frozenset(
    f"tests/system/{name}.py"
    for name in (
        *(f"gateway/doors/test_{door}" for door in ("clients", "hitkeep", "tracardi", "userflux")),
        *("gateway/doors/test_webhooks", "identity/test_mappings", "rates/test_quotas"),
        *(
            "docs/test_analyst_queries",
            "cli/test_status_and_send",
            "event_status/test_event_status",
        ),
    )
)
assert all((FOLDER.parent / name).exists() for name in SHARING_A_WEIR)
assert all((FOLDER / name).exists() for name in FIRST)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the order within a file stays."""
    places = {str(FOLDER / name): place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(str(item.path), len(places)))


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """Run a file, or files that share what they start, in one worker."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "a running Weir" if file in SHARING_A_WEIR else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)


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


@pytest.fixture(scope="session")
def second_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningKafka]:
    running = start_kafka(tmp_path_factory.mktemp("second-kafka"))
    yield running
    running.stop()


@pytest.fixture
def empty_kafka(second_kafka: RunningKafka) -> RunningKafka:
    """A broker that is as good as new, for tests of what has a fixed name: no topic, and no group at work."""
    empty_broker(second_kafka.bootstrap)
    return second_kafka


@pytest.fixture
def unique_name(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Names for topics, groups and transactional ids that no other test has: `unique_name("in")`."""
    mark = uuid.uuid4().hex[:8]
    test = request.node.originalname[:40]
    return lambda name: f"{test}.{mark}.{name}"
