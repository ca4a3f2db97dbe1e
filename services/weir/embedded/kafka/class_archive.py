"""Keep the broker's loaded classes on disk (JVM class data sharing): later starts cost a third less CPU."""

import asyncio
import hashlib
import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from weir.embedded.errors import LocalFaultError
from weir.embedded.kafka.broker import Broker
from weir.embedded.ports import LOOPBACK, free_port
from weir.embedded.readiness import is_ready
from weir.runtime.folder_lock import FolderInUseError, FolderLock

SECONDS = 60.0  # for its start, and for its end
PAUSE_SECONDS = 0.05  # between two looks whether the broker answers
ENDED_IN_ORDER = 143  # a JVM's exit code after SIGTERM
HEAP_MEGABYTES = 256


def archive_path(java: str, jars: Path) -> Path:
    """Return where the archive of this Java and these jars is kept, whether it is there or not."""
    program = Path(java).resolve()
    version = f"{program} {program.stat().st_mtime_ns}"
    return jars / f"classes-{hashlib.sha256(version.encode()).hexdigest()[:12]}.jsa"


def class_archive(java: str, jars: Path) -> Path | None:
    """Return the archive, made now if there is none; None if this Java cannot make it, or another process does.

    The broker runs without an archive as well, so no failure here is one of the caller's.
    """
    path = archive_path(java, jars)
    with suppress(FolderInUseError, OSError):
        if not path.exists():
            lock = FolderLock(jars, f"{path.name}.lock")
            try:
                _make(java, jars, path)
            finally:
                lock.release()
        if path.stat().st_size:
            return path
    return None


def _make(java: str, jars: Path, path: Path) -> None:
    """Make the archive; an empty file says that this Java cannot."""
    fresh = path.with_suffix(f".{os.getpid()}")
    made = False
    with suppress(LocalFaultError):
        made = _run_broker(java, jars, fresh)
    if not made:
        fresh.write_bytes(b"")
    fresh.rename(path)


def _run_broker(java: str, jars: Path, archive: Path) -> bool:
    """Run an empty broker once, for nothing but the classes that it loads; True if it ended in order."""
    with tempfile.TemporaryDirectory(prefix="weir-classes-") as folder:
        broker = Broker(java, jars, Path(folder), free_port(), free_port(), HEAP_MEGABYTES)
        broker.write_properties()
        broker.format()
        process = subprocess.Popen(
            broker.command(f"-XX:ArchiveClassesAtExit={archive}"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            asyncio.run(_wait_for(process, broker.port))
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS)
        finally:
            process.kill()
            process.wait()
    return process.returncode == ENDED_IN_ORDER and archive.exists()


async def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    """Return once the broker answers, has ended, or has had its time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SECONDS):
            while process.poll() is None and not await is_ready(f"kafka://{LOOPBACK}:{port}"):
                await asyncio.sleep(PAUSE_SECONDS)
