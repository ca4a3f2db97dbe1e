"""The faults, one function each: what is done to a running Weir while a sender sends."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import KafkaError

from services.commands.topics import apply_topics
from services.core import topics
from tests.drill.world import SESSION_SECONDS, WORKERS, World
from tests.running import wait_until

Fault = Callable[[World, random.Random], None]


@dataclass(frozen=True)
class Drill:
    """A fault, how often it is done one after another, and how often in the short cut (0: not)."""

    name: str
    fault: Fault
    rounds: int
    short: int = 0


def killed(name: str) -> Fault:
    def fault(world: World, chance: random.Random) -> None:
        if chance.random() < 0.5:
            world.ready(name)  # half of them while it works and commits, the others while it starts
        time.sleep(chance.uniform(0, 1.5))
        world.kill(name)
        world.up(name)

    return fault


def ended(name: str) -> Fault:
    """SIGTERM: it drains, and says by its exit code that it did."""

    def fault(world: World, chance: random.Random) -> None:
        world.ready(name)
        time.sleep(chance.uniform(0, 1))
        code = world.stop(name)
        if code != 0:
            raise AssertionError(f"{name} ended with code {code} after SIGTERM")
        world.up(name)

    return fault


def slept(name: str) -> Fault:
    """SIGSTOP for longer than the session, nobody in its place; then SIGCONT."""

    def fault(world: World, chance: random.Random) -> None:
        world.ready(name)
        world.signal(signal.SIGSTOP, name)
        time.sleep(SESSION_SECONDS + chance.uniform(1, 3))
        world.signal(signal.SIGCONT, name)
        time.sleep(1)
        if not world.members[name, 0].process.running:
            world.up(name)  # it was told that the group went on without it

    return fault


def replaced(name: str) -> Fault:
    """SIGSTOP, a successor in the same slot on another disk, then SIGCONT: one of them must end by itself.

    The zombie, if its session is not over yet; else it has joined anew, and the last to join has the slot.
    """

    def fault(world: World, chance: random.Random) -> None:
        world.ready(name)
        time.sleep(chance.uniform(0, 1))
        zombie = world.members[name, 0]
        world.signal(signal.SIGSTOP, name)
        successor = world.up(name, WEIR_DATA_DIR=str(world.folder / f"elsewhere-{zombie.pid}"))
        world.ready(name)
        time.sleep(chance.uniform(0, SESSION_SECONDS))
        zombie.process.process.send_signal(signal.SIGCONT)
        both = (zombie.process, successor.process)
        wait_until(lambda: not all(one.running for one in both), 60, f"one {name} to end")
        time.sleep(2)
        if not any(one.running for one in both):
            raise AssertionError(f"both {name} have ended, and nobody has the slot")
        zombie.process.kill()
        if not successor.process.running:
            world.up(name)

    return fault


def scaled(world: World, chance: random.Random) -> None:
    """Every worker from one instance to three and back."""
    for name in WORKERS:
        for instance in (1, 2):
            world.up(name, instance)
    time.sleep(chance.uniform(0.5, 4))
    for name in WORKERS:
        for instance in (1, 2):
            world.stop(name, instance)
    time.sleep(chance.uniform(0, SESSION_SECONDS + 2))


def broker_killed(world: World, chance: random.Random) -> None:
    time.sleep(chance.uniform(1, 4))
    world.kill_broker()
    time.sleep(3)


def broker_slept(world: World, chance: random.Random) -> None:
    world.broker.process.send_signal(signal.SIGSTOP)
    time.sleep(30)
    world.broker.process.send_signal(signal.SIGCONT)
    time.sleep(3)


def engine_slept(world: World, chance: random.Random) -> None:
    """Slow beyond patience: nothing is answered for half a minute."""
    world.signal(signal.SIGSTOP, "warehouse")
    time.sleep(30)
    world.signal(signal.SIGCONT, "warehouse")
    time.sleep(3)


def engine_away(world: World, chance: random.Random) -> None:
    world.kill("warehouse")
    time.sleep(60)
    world.up("warehouse")
    world.ready("warehouse")


def engine_full(world: World, chance: random.Random) -> None:
    """Too many parts: every insert is refused until an operator sees to it."""
    limits = "parts_to_throw_insert = 1, parts_to_delay_insert = 1, max_delay_to_insert = 1"
    world.ask(f"ALTER TABLE weir.events MODIFY SETTING {limits}")
    time.sleep(chance.uniform(5, 10))
    names = ", ".join(limit.split(" = ")[0] for limit in limits.split(", "))
    world.ask(f"ALTER TABLE weir.events RESET SETTING {names}")


def state_deleted(world: World, chance: random.Random) -> None:
    name = chance.choice(["dedup", "identity", "rates"])
    world.ready(name)
    time.sleep(chance.uniform(0, 1))
    world.kill(name)
    world.forget_state(name)
    world.up(name)


def state_damaged(world: World, chance: random.Random) -> None:
    """Files cut short, or full of noise."""
    name = chance.choice(["dedup", "identity", "rates"])
    world.ready(name)
    time.sleep(chance.uniform(0, 1))
    world.kill(name)
    files = [
        path for path in world.state_of(name).rglob("*") if path.is_file() and path.stat().st_size
    ]
    for path in chance.sample(files, min(3, len(files))):
        size = path.stat().st_size
        if chance.random() < 0.5:
            path.write_bytes(path.read_bytes()[: size // 2])
        else:
            path.write_bytes(chance.randbytes(size))
    world.up(name)


def groups_deleted(world: World, chance: random.Random) -> None:
    """Every group is gone, offsets and all, as by a clean-up script."""
    for name in WORKERS:
        world.ready(name)
        world.kill(name)
    groups = [f"weir.{name}" for name in WORKERS]

    def are_deleted() -> bool:  # the broker does so once the members' sessions are over
        asked = world.admin.delete_consumer_groups(groups)
        faults = [future.exception() for future in asked.values()]
        gone = KafkaError.GROUP_ID_NOT_FOUND
        return all(fault is None or fault.args[0].code() == gone for fault in faults)

    wait_until(are_deleted, 60, "the groups to be deleted")
    for name in WORKERS:
        world.up(name)


def remade(topic: str, writer: str, reader: str) -> Fault:
    """A topic deleted once all of it was read, and made again: its offsets start again."""

    def fault(world: World, chance: random.Random) -> None:
        for name in ("gateway", *WORKERS):
            world.ready(name)
        time.sleep(chance.uniform(0, 1))
        world.stop("gateway")
        wait_until(lambda: not world.lag(), 60, "nothing to be in flight")
        for name in {writer, reader} - {"gateway"}:
            world.stop(name)
        (deleted,) = world.admin.delete_topics([topic]).values()
        deleted.result(30)
        wait_until(lambda: topic not in world.topics(), 30, f"{topic} to be deleted")
        apply_topics(world.kafka)
        for name in {writer, reader, "gateway"}:
            world.up(name)
        time.sleep(2)

    return fault


DRILLS = (
    *(Drill(f"{name} killed", killed(name), 50, 1) for name in ("gateway", *WORKERS)),
    *(Drill(f"{name} ended", ended(name), 5) for name in ("gateway", *WORKERS)),
    *(Drill(f"{name} slept", slept(name), 2) for name in WORKERS),
    *(Drill(f"{name} replaced", replaced(name), 2) for name in WORKERS),
    Drill("workers scaled", scaled, 20, 1),
    Drill("broker killed", broker_killed, 5),
    Drill("broker slept", broker_slept, 1),
    Drill("warehouse killed", killed("warehouse"), 10),
    Drill("warehouse slept", engine_slept, 1),
    Drill("warehouse away", engine_away, 1),
    Drill("warehouse full", engine_full, 2),
    Drill("state deleted", state_deleted, 6),
    Drill("state damaged", state_damaged, 6),
    Drill("groups deleted", groups_deleted, 3, 1),
    Drill("events.accepted remade", remade(topics.ACCEPTED, "gateway", "dedup"), 2),
    Drill("events.unique remade", remade(topics.UNIQUE, "dedup", "identity"), 2),
    Drill("events.resolved remade", remade(topics.RESOLVED, "identity", "sink"), 2),
    Drill("usage remade", remade(topics.USAGE, "dedup", "rates"), 1),
)
