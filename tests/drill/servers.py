"""What is done to the broker and the engine: gone, silent, full, short of memory."""

import random
import signal
import time

from tests.drill.disk import SmallDisk
from tests.drill.world import World
from tests.support.running import wait_until

DISK_MEGABYTES = 512
AWAY_SECONDS = 300
LITTLE_MEMORY = 40 << 20
SLOW_VIEWS = 10


def broker_killed(world: World, chance: random.Random) -> None:
    world.rest(chance.uniform(1, 4))
    world.kill_broker()
    world.start_broker()
    world.rest(3)


def broker_restarted(world: World, chance: random.Random) -> None:
    """Ended in order and started again, by an operator."""
    world.rest(chance.uniform(1, 4))
    world.broker.stop()
    world.start_broker()
    world.rest(3)


def broker_slept(world: World, chance: random.Random) -> None:
    world.broker.process.send_signal(signal.SIGSTOP)
    world.rest(30)
    world.broker.process.send_signal(signal.SIGCONT)
    world.rest(3)


def broker_disk_full(world: World, chance: random.Random) -> None:
    """The broker's disk fills up under load, it gives up, and is started again once there is room."""
    world.kill_broker()
    with SmallDisk(world.folder / "kafka", DISK_MEGABYTES) as disk:
        world.start_broker()
        world.rest(3)
        disk.fill()
        wait_until(lambda: not world.broker.running, 120, "the broker to give up")
        disk.free()
        world.start_broker()
        world.rest(3)
        world.kill_broker()  # so that its folder can be moved back
    world.start_broker()


def engine_slow(world: World, chance: random.Random) -> None:
    """An insert into the events takes half a minute."""
    views = [f"weir.slow_{number}" for number in range(SLOW_VIEWS)]
    for view in views:
        # as long as the engine lets one call sleep
        asked = "SELECT sleep(3) FROM weir.events"
        world.ask(f"CREATE MATERIALIZED VIEW {view} ENGINE = Null AS {asked}")
    world.rest(90)
    for view in views:
        world.ask(f"DROP VIEW {view}")
    world.rest(3)


def engine_slept(world: World, chance: random.Random) -> None:
    world.signal(signal.SIGSTOP, "warehouse")
    world.rest(30)
    world.signal(signal.SIGCONT, "warehouse")
    world.rest(3)


def engine_away(world: World, chance: random.Random) -> None:
    world.kill("warehouse")
    world.rest(AWAY_SECONDS)
    world.up("warehouse")
    world.ready("warehouse")


def engine_killed_inserting(world: World, chance: random.Random) -> None:
    """In the middle of an insert: it is known to be under way."""
    world.ready("warehouse")
    wait_until(world.is_inserting, 30, "an insert to be under way")
    time.sleep(chance.uniform(0, 0.02))
    world.kill("warehouse")
    world.up("warehouse")
    world.ready("warehouse")


def engine_full(world: World, chance: random.Random) -> None:
    """Too many parts: every insert is refused until an operator sees to it."""
    limits = "parts_to_throw_insert = 1, parts_to_delay_insert = 1, max_delay_to_insert = 1"
    world.ask(f"ALTER TABLE weir.events MODIFY SETTING {limits}")
    world.rest(chance.uniform(5, 10))
    names = ", ".join(limit.split(" = ")[0] for limit in limits.split(", "))
    world.ask(f"ALTER TABLE weir.events RESET SETTING {names}")


def engine_read_only(world: World, chance: random.Random) -> None:
    """The events' table takes nothing, or the one that is fed from it: half an insert is in then."""
    table = chance.choice(["events", "session_segments"])
    world.ask(f"ALTER TABLE weir.{table} MODIFY SETTING table_readonly = 1")
    world.rest(chance.uniform(5, 10))
    world.ask(f"ALTER TABLE weir.{table} RESET SETTING table_readonly")


def engine_out_of_memory(world: World, chance: random.Random) -> None:
    """So little memory that the engine lives and no insert gets through."""
    world.stop("warehouse")
    world.up("warehouse", WEIR_WAREHOUSE_MAX_MEMORY=str(LITTLE_MEMORY))
    world.ready("warehouse")
    wait_until(lambda: world.refused_inserts() > 3, 30, "inserts to be refused")
    world.stop("warehouse")
    world.up("warehouse")
    world.ready("warehouse")


def engine_disk_full(world: World, chance: random.Random) -> None:
    """The engine's disk fills up under load, and is given room again."""
    world.stop("warehouse")
    with SmallDisk(world.folder / "clickhouse", DISK_MEGABYTES) as disk:
        world.up("warehouse")
        world.ready("warehouse")
        disk.fill()
        world.rest(chance.uniform(5, 10))
        disk.free()
        world.rest(3)
        world.stop("warehouse")  # so that its folder can be moved back
    world.up("warehouse")
    world.ready("warehouse")
