"""What is done to what Weir remembers: stores, changelogs, groups' offsets, topics, and the time of day."""

import random
import signal
import struct
import time
from pathlib import Path

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, TopicPartition

from tests.drill.disk import SmallDisk
from tests.drill.world import WORKERS, Fault, World
from tests.support.running import wait_until
from weir.cli.topics import apply_topics
from weir.core import topics
from weir.core.stages import GROUPS, STAGES, group_of

STATEFUL = tuple(stage.name for stage in STAGES if stage.changelog)
COMPACTED = (topics.PROFILES, topics.QUOTAS, topics.POSITIONS)
SMALL_DISK_MEGABYTES = 64
HOUR = 3_600
CLOCK = Path(__file__).parent / "clock"


def state_deleted(world: World, chance: random.Random) -> None:
    name = _killed_at_work(world, chance)
    world.forget_state(name)
    world.up(name)


def state_damaged(world: World, chance: random.Random) -> None:
    """Files cut short, full of noise, or not to be read."""
    name = _killed_at_work(world, chance)
    files = [
        path for path in world.state_of(name).rglob("*") if path.is_file() and path.stat().st_size
    ]
    for path in chance.sample(files, min(3, len(files))):
        size = path.stat().st_size
        harm = chance.choice(["short", "noise", "unreadable"])
        if harm == "short":
            path.write_bytes(path.read_bytes()[: size // 2])
        elif harm == "noise":
            path.write_bytes(chance.randbytes(size))
        else:  # by nobody, root included
            path.unlink()
            path.mkdir()
    world.up(name)


def state_disk_full(world: World, chance: random.Random) -> None:
    """A worker's disk fills up under load; it fails there until there is room."""
    name = chance.choice(STATEFUL)
    world.ready(name)
    world.stop(name)
    with SmallDisk(world.state_of(name), SMALL_DISK_MEGABYTES) as disk:
        world.up(name)
        world.ready(name)
        disk.fill()
        world.rest(chance.uniform(5, 10))
        disk.free()
        world.rest(2)
        world.ready(name)
        world.stop(name)  # so that its folder can be moved back
    world.up(name)


def changelogs_compacted(world: World, chance: random.Random) -> None:
    """What the changelogs no longer hold is of no use to anybody: stores are rebuilt from the rest."""
    for topic in COMPACTED:
        world.configure(
            topic,
            {
                "segment.ms": "1000",
                "min.cleanable.dirty.ratio": "0.001",
                "min.compaction.lag.ms": "0",
                "max.compaction.lag.ms": "1000",
            },
        )
    before = world.cleaned(topics.PROFILES)
    compacted = f"the broker to compact {topics.PROFILES}"
    wait_until(lambda: world.cleaned(topics.PROFILES) > before, 90, compacted)
    for name in ("identity", "rates"):
        world.ready(name)
        world.kill(name)
        world.forget_state(name)
        world.up(name)
    for name in WORKERS:
        world.ready(name)
    apply_topics(world.kafka)  # as they are to be


def groups_deleted(world: World, chance: random.Random) -> None:
    """Every group is gone, offsets and all, as by a clean-up script."""
    for name in WORKERS:
        world.ready(name)
        world.kill(name)
    groups = list(GROUPS)

    def are_deleted() -> bool:  # the broker does so once the members' sessions are over
        asked = world.admin.delete_consumer_groups(groups)
        faults = [future.exception() for future in asked.values()]
        gone = KafkaError.GROUP_ID_NOT_FOUND
        return all(fault is None or fault.args[0].code() == gone for fault in faults)

    wait_until(are_deleted, 60, "the groups to be deleted")
    for name in WORKERS:
        world.up(name)


def offsets_of_an_earlier_version(world: World, chance: random.Random) -> None:
    """Committed offsets whose metadata do not name the topic they are of."""
    for name in WORKERS:
        world.ready(name)
        world.kill(name)
    for name in WORKERS:
        group = group_of(name)
        (asked,) = world.admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)]
        ).values()
        # the topic's id, and behind it what an earlier version would have written
        plain = [
            TopicPartition(at.topic, at.partition, at.offset, (at.metadata or "").partition(" ")[2])
            for at in asked.result(30).topic_partitions
            if at.offset >= 0
        ]
        if not plain:
            continue  # it has yet to come anywhere

        def are_taken(group: str = group, plain: list[TopicPartition] = plain) -> bool:
            written = world.admin.alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, plain)]
            )
            return all(future.exception() is None for future in written.values())

        wait_until(are_taken, 60, f"the offsets of {group} to be written")
    for name in WORKERS:
        world.up(name)


def remade(topic: str, writer: str, reader: str) -> Fault:
    """A topic deleted once all of it was read, and made again: its offsets start again.

    Half of the times under those who write and read it, the others while they are away.
    """

    def fault(world: World, chance: random.Random) -> None:
        for name in ("gateway", *WORKERS):
            world.ready(name)
        time.sleep(chance.uniform(0, 1))
        away = {"gateway", writer, reader} if chance.random() < 0.5 else set()
        if away:
            world.stop("gateway")
        else:
            world.signal(signal.SIGSTOP, "gateway")
        wait_until(lambda: not world.lag(), 60, "nothing to be in flight")
        for name in away - {"gateway"}:
            world.stop(name)
        (deleted,) = world.admin.delete_topics([topic]).values()
        deleted.result(30)
        wait_until(lambda: topic not in world.topics(), 30, f"{topic} to be deleted")
        apply_topics(world.kafka)
        for name in away:
            world.up(name)
        if not away:
            world.signal(signal.SIGCONT, "gateway")
        world.rest(2)

    return fault


def clock_jumped(world: World, chance: random.Random) -> None:
    """The time of day of every process goes an hour ahead, and then two hours back, under load."""
    offset = world.folder / "clock"
    offset.write_bytes(struct.pack("d", 0.0))
    for name in ("gateway", *WORKERS):
        world.stop(name)
        world.up(name, PYTHONPATH=str(CLOCK), DRILL_CLOCK=str(offset))
    for name in ("gateway", *WORKERS):
        world.ready(name)
    for hours in (0, 1, -1):
        with offset.open("r+b") as file:
            file.write(struct.pack("d", hours * HOUR))
        world.rest(5)
    ((span,),) = world.ask(
        "SELECT dateDiff('second', min(received_at), max(received_at)) FROM weir.events"
        " WHERE source = 'drill-clock-jumped'"
    )
    if not isinstance(span, int) or span < 2 * HOUR:
        raise AssertionError(f"the gateway's clock went {span} s at most")


def _killed_at_work(world: World, chance: random.Random) -> str:
    name = chance.choice(STATEFUL)
    world.ready(name)
    time.sleep(chance.uniform(0, 1))
    world.kill(name)
    return name
