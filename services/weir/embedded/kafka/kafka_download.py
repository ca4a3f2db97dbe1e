"""Downloads the embedded broker's jars with Maven, once per user; checks every jar against its hash.

`python -m weir.embedded.kafka.kafka_download` rewrites the hashes after a change of `pom.xml`.
"""

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from weir.core.resource_paths import DEPLOY
from weir.embedded.errors import LocalFaultError
from weir.embedded.kafka.toolchain import find_maven

POM = DEPLOY / "kafka" / "pom.xml"
SUMS = DEPLOY / "kafka" / "jars.sha256"
NAMESPACE = {"maven": "http://maven.apache.org/POM/4.0.0"}
LAST_LINES = 5


def cache_root() -> Path:
    """Return the folder for downloads, shared by all copies of Weir of this user (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "weir"


def jars_folder(pom: Path = POM) -> Path:
    """Return the folder for the jars of exactly this `pom.xml`, whether they are there or not."""
    text = pom.read_bytes()
    version = ElementTree.fromstring(text).findtext(
        "maven:properties/maven:kafka.version", "unknown", NAMESPACE
    )
    return cache_root() / f"kafka-{version}-{hashlib.sha256(text).hexdigest()[:12]}"


async def resolve_jars(
    progress: Callable[[str], None] = lambda line: None, pom: Path = POM, sums: Path = SUMS
) -> Path:
    """Return the folder with all the jars, complete and checked; several processes may call this at once.

    `progress` gets each file that Maven fetches. `LocalFaultError` if Maven is missing or fails, or if
    a jar does not match `sums`; such a download is not kept. Nothing is left behind when cancelled.
    """
    folder = jars_folder(pom)
    if folder.is_dir():
        require_sums(folder, sums)
        return folder
    maven = find_maven()
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        await _copy_jars(maven, pom, fresh, progress)
        require_sums(fresh, sums)
        try:
            fresh.rename(folder)  # atomic, so a folder that exists is complete
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def sums_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every jar, by file name."""
    jars = sorted(folder.glob("*.jar"))
    return {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in jars}


def require_sums(folder: Path, sums: Path = SUMS) -> None:
    """Raise `LocalFaultError` unless the folder has exactly the jars that `sums` names."""
    pairs = (line.split(maxsplit=1) for line in sums.read_text().splitlines())
    pinned = {name: digest for digest, name in pairs}
    found = sums_of(folder)
    wrong = sorted(name for name in found | pinned if found.get(name) != pinned.get(name))
    if wrong:
        raise LocalFaultError(
            f"Jars of the embedded broker do not match {sums}: {', '.join(wrong)}. "
            f"They are not run. If the download was damaged, remove {folder} and Maven's copies of "
            "them, and try again; if it happens again, somebody may have replaced the jars."
        )


async def _copy_jars(maven: str, pom: Path, folder: Path, progress: Callable[[str], None]) -> None:
    lines: list[str] = []
    process = await asyncio.create_subprocess_exec(
        maven,
        *("--batch-mode", "--strict-checksums", "--file", str(pom), "dependency:copy-dependencies"),
        *("-DincludeScope=runtime", f"-DoutputDirectory={folder}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            lines.append(line.decode(errors="replace").rstrip())
            fetched = re.search(r"Downloaded from \S+ \S*/(\S+\.jar) \((.*?) at", lines[-1])
            if fetched:
                progress(f"{fetched[1]} ({fetched[2]})")
        code = await process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        raise
    if code != 0:
        errors = [line for line in lines if "[ERROR]" in line] or lines
        raise LocalFaultError(
            "Maven could not fetch the embedded broker's jars; check the network or Maven's "
            "settings.xml and try again. Maven's output:\n" + "\n".join(errors[:LAST_LINES])
        )


async def write_sums(pom: Path = POM, sums: Path = SUMS) -> None:
    """Fetch the jars of a `pom.xml` and write their hashes, so that somebody can review the change."""
    with tempfile.TemporaryDirectory() as folder:
        await _copy_jars(find_maven(), pom, Path(folder), print)
        found = sums_of(Path(folder))
    sums.write_text("".join(f"{digest}  {name}\n" for name, digest in found.items()))


if __name__ == "__main__":
    asyncio.run(write_sums())
