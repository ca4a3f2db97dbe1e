"""Nothing is lost or counted twice while processes die and local disks are lost."""

import json
import os
import random
import shutil
import signal
from pathlib import Path

from tests.support.running import wait_until
from tests.support.running_weir import KEYS, RunningWeir, meanwhile

EVENTS, REPEATS = 10_000, 1_000
WORKERS = ("dedup", "identity", "rates", "sink")
COUNTS = "SELECT count(), uniqExact(event_id) FROM weir.events WHERE source = 'faults'"


def write_events(path: Path, seed: int) -> Path:
    """`EVENTS` events and `REPEATS` repeats of them under the same keys, mixed."""
    chance = random.Random(seed)
    numbers = list(range(EVENTS))
    for _ in range(REPEATS):
        numbers.insert(chance.randrange(EVENTS), chance.randrange(EVENTS))
    with path.open("w") as file:
        for number in numbers:
            event = {
                "event": "page_view",
                "id": f"{seed}-{number}",
                "user_id": number % 500,
                "anonymous_id": f"device-{number % 700}",
                "properties": {"price": number / 10},
            }
            file.write(json.dumps(event) + "\n")
    return path


def send(weir: RunningWeir, path: Path) -> None:
    result = weir.run("send", str(path), "--url", weir.gateway, "--key", KEYS["faults"])
    assert result.returncode == 0, result.stdout + result.stderr


def wait_for_successor(weir: RunningWeir, worker: str, victim: int) -> None:
    wait_until(lambda: weir.pid(worker) not in (0, victim), 30, f"a new {worker}")


def test_no_event_is_lost_or_doubled_when_the_broker_is_killed_under_load(
    weir: RunningWeir, tmp_path: Path
) -> None:
    ((stored, _),) = weir.ask(COUNTS)
    path = write_events(tmp_path / "events.ndjson", seed=4)
    with meanwhile(send, weir, path):
        wait_until(lambda: weir.ask(COUNTS)[0][0] > stored, 60, "the first events")
        victim = weir.pid("kafka")
        os.kill(victim, signal.SIGKILL)
        wait_for_successor(weir, "kafka", victim)
        wait_until(lambda: weir.run("topics", "list").returncode == 0, 60, "the broker to answer")
    weir.require_balanced_books()
    assert weir.ask(COUNTS) == [(stored + EVENTS, stored + EVENTS)]
    # workers that were at rest meanwhile go on with the same process: none waits for a coordinator of before
    workers = {worker: weir.pid(worker) for worker in WORKERS}
    send(weir, write_events(tmp_path / "later.ndjson", seed=5))
    weir.require_balanced_books()
    assert weir.ask(COUNTS) == [(stored + 2 * EVENTS, stored + 2 * EVENTS)]
    assert {worker: weir.pid(worker) for worker in WORKERS} == workers


def test_local_state_that_is_lost_comes_back_from_the_changelog(
    weir: RunningWeir, tmp_path: Path
) -> None:
    path = write_events(tmp_path / "events.ndjson", seed=2)
    send(weir, path)
    weir.require_balanced_books()
    people = "SELECT profile_id, events, sessions FROM weir.profiles WHERE workspace = 'faults'"
    peak = "SELECT peak_rate > 0 FROM weir.rates WHERE source = 'faults'"
    counts, known, rate = weir.ask(COUNTS), sorted(weir.ask(people)), weir.ask(peak)
    victims = {worker: weir.pid(worker) for worker in ("dedup", "identity", "rates")}
    for worker, victim in victims.items():
        os.kill(victim, signal.SIGSTOP)  # so that it cannot write its state while the folder goes
        shutil.rmtree(Path(weir.environ["WEIR_DATA_DIR"]) / "state" / f"weir-{worker}-0")
        os.kill(victim, signal.SIGKILL)
    for worker, victim in victims.items():
        wait_for_successor(weir, worker, victim)
    send(weir, path)
    weir.require_balanced_books()
    assert weir.ask(COUNTS) == counts
    assert sorted(weir.ask(people)) == known
    assert weir.ask(peak) == rate == [(1,)]
