"""What is done to processes: killed, ended, put to sleep, replaced, multiplied."""

import random
import signal
import time

from tests.drill.world import SESSION_SECONDS, WORKERS, Fault, World
from tests.support.running import wait_until


def killed(name: str) -> Fault:
    def fault(world: World, chance: random.Random) -> None:
        if chance.random() < 0.5:
            world.ready(name)  # half of them while it works and commits, the others while it starts
        time.sleep(chance.uniform(0, 1.5))
        world.kill(name)
        world.up(name)

    return fault


def each_killed(world: World, chance: random.Random) -> None:
    """Gateway and workers, one after another, judged once: for the short cut."""
    for name in ("gateway", *WORKERS):
        killed(name)(world, chance)


def killed_together(world: World, chance: random.Random) -> None:
    """Any two of the processes, a moment apart."""
    pair = chance.sample(["gateway", *WORKERS, "warehouse"], 2)
    if chance.random() < 0.5:
        for name in pair:
            world.ready(name)
    time.sleep(chance.uniform(0, 1.5))
    for name in pair:
        world.kill(name)
        time.sleep(chance.uniform(0, 0.3))
    for name in pair:
        world.up(name)


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
        world.revive()  # it was told that the group went on without it

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
