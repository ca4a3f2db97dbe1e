"""`weir up`: start all of Weir on this machine, in order, and run it until Ctrl-C."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TextIO, cast

from rich.console import Console
from rich.markup import escape

from weir.embedded.errors import LocalFaultError
from weir.embedded.kafka.kafka_download import resolve_jars
from weir.embedded.kafka.toolchain import find_java
from weir.embedded.ports import PortClaims
from weir.embedded.up.disk import Disk
from weir.embedded.up.process_specs import Programs
from weir.embedded.up.processes import ChildLostError, ChildSpec
from weir.embedded.up.progress import Progress
from weir.embedded.up.supervisor import MIB, Supervisor
from weir.embedded.up.threads import in_thread
from weir.runtime import process
from weir.runtime.folder_lock import FolderInUseError, FolderLock
from weir.runtime.logs import Unfailing
from weir.settings.catalogue import require_known_variables
from weir.settings.embedded import UpSettings
from weir.settings.embedded_clickhouse import WarehouseSettings
from weir.settings.environment import SettingsError, load
from weir.settings.gateway import GatewaySettings
from weir.settings.shared import ClickHouseSettings, CommonSettings, KafkaSettings

GREETING = """
[bold green]Weir is up[/] [dim]({seconds:.1f} s; Ctrl-C stops it)[/]

  gateway      {gateway}
  ClickHouse   {clickhouse}   [dim]database {database}[/]
  Kafka        {kafka}
  data         {folder}   [dim]logs in logs/[/]

Send an event, and read it:

  curl -s {gateway}/v1/events -H 'Authorization: Bearer demo-write-key' \\
    -H 'Content-Type: application/json' -d '{{"event": "hello", "user_id": "ada"}}'

  curl -s {clickhouse} --data-binary \\
    'SELECT event, user_id, profile_id, received_at FROM {database}.events FORMAT PrettyCompact'
"""


class Up:
    """One run of `weir up`."""

    def __init__(self, programs: Programs, progress: Progress, supervisor: Supervisor) -> None:
        self._programs = programs
        self._progress = progress
        self._supervisor = supervisor

    async def bring_up(self) -> None:
        """Start every process; all are ready on return. Raises `LocalFaultError`, `ChildLostError`."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._prepare_kafka())
                both.create_task(self._prepare_clickhouse())
            with self._progress.step("gateway, workers"):
                async with asyncio.TaskGroup() as all_of_them:
                    for spec in self._programs.gateway_and_workers():
                        all_of_them.create_task(self._supervisor.start(spec))
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None

    async def _prepare_kafka(self) -> None:
        broker = self._programs.broker()
        if broker is not None:
            with self._progress.step("Kafka's jars"):
                await resolve_jars(lambda file: self._progress.note("Kafka's jars", file))
            await self._start(broker)
        with self._progress.step("topics"):
            await in_thread(self._apply_topics)
        with self._progress.step("sources"):
            await in_thread(self._apply_sources)

    async def _prepare_clickhouse(self) -> None:
        warehouse = self._programs.warehouse()
        if warehouse is not None:
            await self._start(warehouse)
        with self._progress.step("tables"):
            await in_thread(self._migrate)

    async def _start(self, spec: ChildSpec) -> None:
        with self._progress.step(spec.title):
            await self._supervisor.start(spec)

    # The three methods below import when they run, so that the imports load while the broker starts.

    def _apply_topics(self) -> None:
        from weir.adapters.errors import RefusedError, UnavailableError
        from weir.cli.topics import TopicsError, apply_topics

        try:
            apply_topics(quiet(self._programs.kafka))
        except (TopicsError, UnavailableError, RefusedError) as fault:
            raise LocalFaultError(f"Topics cannot be applied: {fault}") from None

    def _apply_sources(self) -> None:
        from weir.adapters.errors import RefusedError, UnavailableError
        from weir.registry.contents import NoRegistryError
        from weir.registry.source_changes import apply_sources, sealing_of
        from weir.registry.sources_file import SourcesFileError

        path = self._programs.up.sources_file
        try:
            apply_sources(quiet(self._programs.kafka), path, sealing_of(os.environ))
        except (SourcesFileError, NoRegistryError, UnavailableError, RefusedError) as fault:
            raise LocalFaultError(f"{path} cannot be applied: {fault}") from None

    def _migrate(self) -> None:
        from weir.adapters.errors import RefusedError, UnavailableError
        from weir.cli.migrate import migrate
        from weir.settings.shared import MigrationSettings
        from weir.sink.migrations import MigrationError

        try:
            migrate(self._programs.clickhouse, load(MigrationSettings, os.environ))
        except (MigrationError, UnavailableError, RefusedError) as fault:
            raise LocalFaultError(f"ClickHouse's tables cannot be applied: {fault}") from None


def quiet(kafka: KafkaSettings) -> KafkaSettings:
    """Return settings that keep librdkafka from logging that a broker that has just started is not ready yet."""
    return replace(kafka, kafka_options={"log_level": "3", **(kafka.kafka_options or {})})


async def run(programs: Programs) -> int:
    """Run until SIGINT or SIGTERM, then return 0. Return 1 if the start fails or a process cannot be kept running."""
    began = time.monotonic()
    output = cast(TextIO, Unfailing(sys.stderr))
    console = Console(file=output, highlight=False, soft_wrap=True)
    progress = Progress(console)
    supervisor = Supervisor(
        programs.folder, progress.say, log_bytes=programs.up.log_megabytes * MIB
    )
    stop_signal = stop_on_signals(supervisor.kill)
    bringing = asyncio.create_task(Up(programs, progress, supervisor).bring_up())
    stopping = asyncio.create_task(stop_signal.wait())
    try:
        await first_of(bringing, stopping, supervisor.failed)
        if bringing.done():
            bringing.result()
            console.print(greeting(programs, time.monotonic() - began))
            await first_of(stopping, supervisor.failed)
        if not stopping.done():
            supervisor.failed.result()
        return 0
    except (LocalFaultError, ChildLostError) as fault:
        console.print(f"[red]✗[/] {escape(str(fault))}")
        return 1
    finally:
        progress.close()
        bringing.cancel()
        with suppress(BaseException):  # its error, if any, is reported above
            await bringing
        await stop_all(supervisor, progress)


async def stop_all(supervisor: Supervisor, progress: Progress) -> None:
    """Stop all processes; none is left running on return."""
    with progress.step("stopping in order"):
        await supervisor.stop()


async def first_of(
    *awaited: asyncio.Future[None] | asyncio.Task[None] | asyncio.Task[bool],
) -> None:
    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)


def stop_on_signals(kill: Callable[[], None]) -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set; on a second signal, `kill` is called."""
    signalled = asyncio.Event()

    def on_signal() -> None:
        if signalled.is_set():
            kill()
        signalled.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return signalled


def greeting(programs: Programs, seconds: float) -> str:
    return GREETING.format(
        seconds=seconds,
        gateway=programs.gateway_url,
        clickhouse=programs.clickhouse.url(),
        database=programs.clickhouse.clickhouse_database,
        kafka=programs.kafka.bootstrap(),
        folder=escape(str(programs.folder)),
    )


def read_programs() -> Programs:
    """Read all settings. `SettingsError` lists the unknown variables, or else the faults of the first wrong group."""
    require_known_variables(os.environ)
    common = load(CommonSettings, os.environ)
    return Programs(
        common,
        load(KafkaSettings, os.environ),
        load(ClickHouseSettings, os.environ),
        load(GatewaySettings, os.environ),
        load(WarehouseSettings, os.environ),
        load(UpSettings, os.environ),
        PortClaims(f"with data in {common.data_dir.resolve()}"),
    )


def require_room(folder: Path) -> None:
    """Raise `LocalFaultError` if the disk is full: nothing can be written. A running Weir waits for room instead."""
    if full := Disk(folder).why_full():
        raise LocalFaultError(f"Weir cannot start: {full}. Make room, or set WEIR_DATA_DIR.")


def main() -> int:
    """Return 0 when told to stop, 1 after a sentence about what prevents the run, 2 for wrong settings."""
    process.begin("up")
    try:
        programs = read_programs()
        process.configure(programs.common, "up")
        if not programs.kafka.kafka_bootstrap:
            find_java()
        require_room(programs.folder)
        lock = FolderLock(programs.folder, "up.lock")
        programs.require_ports()
    except SettingsError as fault:
        print(fault, file=sys.stderr)
        return 2
    except (LocalFaultError, FolderInUseError, OSError) as fault:
        print(fault, file=sys.stderr)
        return 1
    try:
        return asyncio.run(run(programs))
    finally:
        programs.ports.release()
        lock.release()


if __name__ == "__main__":
    sys.exit(main())
