"""Weir stays up when its disk fills, reports it, and continues when there is room."""

import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError

from tests.drill.disk import CannotMountError, SmallDisk
from tests.support.running import wait_until
from tests.support.running_weir import KEYS, RunningWeir, start_weir

MEGABYTES = 512
NEARLY_FULL_BYTES = 16 << 20
BACK_SECONDS = 240


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "data"
    folder.mkdir()
    try:
        small = SmallDisk(folder, MEGABYTES).__enter__()
    except CannotMountError as fault:
        pytest.skip(f"this user may not mount a small disk: {fault}")
    yield small
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, left: int = 0) -> None:
    """No more than that many bytes are left on return; others may have taken the last ones."""
    with (folder / "filler").open("ab", buffering=0) as filler, suppress(OSError):
        while shutil.disk_usage(folder).free > left:
            filler.write(bytes(1 << 18))


def send(weir: RunningWeir, name: str) -> bool:
    """Whether the gateway has taken it."""
    request = urllib.request.Request(
        f"{weir.gateway}/v1/events",
        json.dumps([{"event": name, "id": f"{name}-{number}"} for number in range(20)]).encode(),
        {"Authorization": f"Bearer {KEYS['shop']}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bool(answer.status == 202)
    except OSError:  # HTTP errors are of its kind
        return False


def stored(weir: RunningWeir) -> set[str]:
    return {str(row[0]) for row in weir.ask("SELECT DISTINCT event FROM weir.events")}


@pytest.mark.timeout(900)  # a broker starts several times
def test_weir_reports_a_full_disk_and_stores_all_accepted_events_once_freed(
    tmp_path: Path, disk: SmallDisk
) -> None:
    weir = start_weir(tmp_path / "data", log=tmp_path / "up.log")
    try:
        taken = {"before"}
        assert send(weir, "before")
        wait_until(lambda: stored(weir) >= taken, 60, "the first events")
        fill(disk.folder, NEARLY_FULL_BYTES)  # as disks do: not at once
        wait_until(lambda: "is full" in weir.process.said(), 60, "words about the disk")
        # most of what it does needs room: somebody gives up while this one is sent again and again
        for number in range(200):
            if send(weir, f"full-{number}"):
                taken.add(f"full-{number}")
            fill(disk.folder)
            if "it is started again as soon as there is room" in weir.process.said():
                break  # the broker has given up
        assert weir.process.running
        disk.free()
        wait_until(lambda: send(weir, "after"), BACK_SECONDS, "the gateway to take events again")
        taken.add("after")
        wait_until(lambda: seen(weir) >= taken, BACK_SECONDS, "everything that was taken")
        assert "there is room again" in weir.process.said()
        weir.require_balanced_books()
        assert weir.stop() == 0, weir.process.said()
    finally:
        weir.process.kill()


def seen(weir: RunningWeir) -> set[str]:
    """What is stored, or nothing while ClickHouse is on its way back."""
    try:
        return stored(weir)
    except ClickHouseError:
        return set()
