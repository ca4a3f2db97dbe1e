"""`weir up` reports each thing a machine lacks or has in use in one sentence."""

import asyncio
import hashlib
import os
import socket
import stat
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.support.running import bare_environ
from weir.embedded.errors import LocalFaultError
from weir.embedded.kafka.kafka_download import POM, SUMS, jars_folder, resolve_jars, write_sums
from weir.embedded.kafka.toolchain import find_java, find_maven, java_version
from weir.embedded.ports import PortClaims, free_port, is_free, require_free
from weir.embedded.readiness import is_ready
from weir.embedded.up.disk import Disk, free_bytes
from weir.embedded.up.process_specs import Programs
from weir.runtime.folder_lock import FolderInUseError, FolderLock
from weir.settings.embedded import UpSettings
from weir.settings.embedded_clickhouse import WarehouseSettings
from weir.settings.gateway import GatewaySettings
from weir.settings.shared import ClickHouseSettings, CommonSettings, KafkaSettings


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def jdk(folder: Path, version: str) -> Path:
    program(folder / "bin" / "java", "exit 1")
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return folder


@pytest.mark.parametrize(
    ("text", "version"), [("17.0.15", 17), ("21", 21), ("1.8.0_392", 8), ("25-ea", 25)]
)
def test_java_version_is_read_from_the_release_file(
    tmp_path: Path, text: str, version: int
) -> None:
    assert java_version(str(jdk(tmp_path, text) / "bin" / "java")) == version


def test_java_version_is_read_from_java_itself_without_a_release_file(tmp_path: Path) -> None:
    java = program(tmp_path / "bin" / "java", "echo 'openjdk version \"21.0.2\" 2024' >&2")
    assert java_version(str(java)) == 21


def test_a_java_older_than_17_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(jdk(tmp_path, "11.0.2")))
    with pytest.raises(LocalFaultError, match=r"needs Java 17, and .* is version 11: install"):
        find_java()


def test_errors_for_missing_java_and_maven_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(LocalFaultError, match="install a JDK 17 or newer"):
        find_java()
    with pytest.raises(LocalFaultError, match="install Apache Maven"):
        find_maven()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "cache" / "weir"


# A stand-in for Maven that puts one file where it is told to.
FETCHES = """
for argument in "$@"; do
  case "$argument" in -DoutputDirectory=*) folder="${argument#*=}";; esac
done
echo "[INFO] Downloaded from somewhere: https://x.invalid/a/kafka.jar (5 kB at 1 MB/s)"
echo jar > "$folder/kafka.jar"
"""


def sums(folder: Path, content: bytes = b"jar\n") -> Path:
    path = folder / "jars.sha256"
    path.write_text(f"{hashlib.sha256(content).hexdigest()}  kafka.jar\n")
    return path


async def test_jars_are_downloaded_once_by_concurrent_callers(cache: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin" / "mvn", f"echo x >> {tmp_path}/runs{FETCHES}")
    said: list[str] = []
    pinned = sums(tmp_path)
    first, second = await asyncio.gather(
        resolve_jars(said.append, sums=pinned), resolve_jars(sums=pinned)
    )
    assert first == second == jars_folder()
    assert [path.name for path in cache.iterdir()] == [first.name]
    assert (first / "kafka.jar").exists()
    assert said == ["kafka.jar (5 kB)"]
    before = (tmp_path / "runs").read_text()
    await resolve_jars(sums=pinned)
    assert (tmp_path / "runs").read_text() == before


async def test_jars_with_a_wrong_hash_or_without_one_are_rejected(
    cache: Path, tmp_path: Path
) -> None:
    program(tmp_path / "bin" / "mvn", FETCHES)
    with pytest.raises(LocalFaultError, match=r"do not match .*jars.sha256: kafka.jar"):
        await resolve_jars(sums=sums(tmp_path, b"another"))
    assert list(cache.iterdir()) == []
    folder = await resolve_jars(sums=sums(tmp_path))
    (folder / "more.jar").write_bytes(b"")  # nothing else may get onto the class path
    with pytest.raises(LocalFaultError, match=r"sha256: more.jar\. They are not run"):
        await resolve_jars(sums=sums(tmp_path))
    (folder / "more.jar").unlink()
    (folder / "kafka.jar").write_bytes(b"changed")
    with pytest.raises(LocalFaultError, match=r"sha256: kafka.jar\."):
        await resolve_jars(sums=sums(tmp_path))


async def test_write_sums_writes_the_hashes_of_the_jars_from_maven(
    cache: Path, tmp_path: Path
) -> None:
    program(tmp_path / "bin" / "mvn", FETCHES)
    written = tmp_path / "written.sha256"
    await write_sums(sums=written)
    assert written.read_text() == sums(tmp_path).read_text()


def test_the_hash_file_is_sorted_and_holds_the_kafka_version_of_the_pom() -> None:
    names = [line.split()[1] for line in SUMS.read_text().splitlines()]
    version = ElementTree.fromstring(POM.read_bytes()).findtext(
        "{*}properties/{*}kafka.version", ""
    )
    assert f"kafka_2.13-{version}.jar" in names
    assert names == sorted(names)


async def test_a_failed_download_leaves_no_files_and_reports_mavens_error(
    cache: Path, tmp_path: Path
) -> None:
    program(tmp_path / "bin" / "mvn", "echo '[INFO] so far'; echo '[ERROR] no route'; exit 1")
    with pytest.raises(LocalFaultError, match=r"could not fetch.*\n\[ERROR\] no route"):
        await resolve_jars()
    assert list(cache.iterdir()) == []


async def test_a_cancelled_download_leaves_no_files(cache: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin" / "mvn", f"touch {tmp_path}/began; exec sleep 100")
    fetching = asyncio.create_task(resolve_jars())
    async with asyncio.timeout(20):
        while not (tmp_path / "began").exists():
            await asyncio.sleep(0.01)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert list(cache.iterdir()) == []


def test_a_changed_pom_gets_another_jar_folder(cache: Path, tmp_path: Path) -> None:
    pom = tmp_path / "pom.xml"
    pom.write_text("<project/>")
    first = jars_folder(pom)
    pom.write_text("<project></project>")
    assert jars_folder(pom) != first


def test_a_folder_lock_is_held_by_one_owner_at_a_time(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, "up.lock")
    with pytest.raises(FolderInUseError, match=f"is in use by process {os.getpid()}: stop that"):
        FolderLock(tmp_path, "up.lock")
    lock.release()
    FolderLock(tmp_path, "up.lock").release()


def test_an_inherited_lock_is_held_until_the_child_process_ends(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, "broker.lock", inherit=True)
    with subprocess.Popen(["sleep", "100"], close_fds=False) as heir:
        lock.release()
        with pytest.raises(FolderInUseError):
            FolderLock(tmp_path, "broker.lock")
        heir.kill()
    FolderLock(tmp_path, "broker.lock").release()


def test_a_port_in_use_is_rejected_or_skipped(tmp_path: Path) -> None:
    claims = PortClaims(folder=tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(LocalFaultError, match=f"Port {port}, meant for x, .* or set WEIR_X"):
            require_free(port, "x", "WEIR_X")
        with pytest.raises(LocalFaultError, match=f"Port {port}, meant for x, is in use: stop"):
            claims.require(port, "x", "WEIR_X")
        assert port not in claims.take(port, 2)
    anywhere = claims.take(0, 3)
    assert len(set(anywhere)) == 3
    with pytest.raises(LocalFaultError, match="WEIR_METRICS_BASE_PORT"):
        claims.take(65_535, 3)


def test_a_port_claimed_by_another_weir_up_is_not_free(tmp_path: Path) -> None:
    """Two `weir up` started at once get different ports although neither listens yet."""
    first, second = (PortClaims(f"with data in /{name}", tmp_path) for name in ("one", "two"))
    port = free_port()
    first.require(port, "the gateway", "WEIR_GATEWAY_PORT")
    named = rf"is in use by another `weir up` \(process {os.getpid()} with data in /one\): stop"
    with pytest.raises(LocalFaultError, match=named):
        second.require(port, "the gateway", "WEIR_GATEWAY_PORT")
    with pytest.raises(LocalFaultError, match="in use by another part of this Weir"):
        first.require(port, "ClickHouse", "WEIR_CLICKHOUSE_PORT")
    base = min(free_port(), 60_000)
    assert not set(first.take(base, 5)) & set(second.take(base, 5))
    assert not set(first.take(0, 5)) & set(second.take(0, 5))
    first.release()
    second.require(port, "the gateway", "WEIR_GATEWAY_PORT")
    second.release()


def test_ports_are_still_checked_when_claims_cannot_be_stored(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    claims = PortClaims(folder=tmp_path / "file")  # no folder can be made there
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(LocalFaultError, match="is in use: stop"),
    ):
        claims.require(taken.getsockname()[1], "x", "WEIR_X")
    claims.require(free_port(), "x", "WEIR_X")
    assert len(claims.take(0, 2)) == 2


def test_a_full_disk_is_described_with_free_and_needed_space(tmp_path: Path) -> None:
    free = 100 << 20
    disk = Disk(tmp_path, 64 << 20, lambda folder: free)
    assert disk.why_full() == ""
    free = 3 << 20
    assert f"{tmp_path} is full (3 MiB left, 64 MiB needed)" in disk.why_full()
    assert free_bytes(tmp_path) > 0
    assert free_bytes(tmp_path / "nowhere") > 1 << 60


async def test_an_address_where_nothing_listens_is_not_ready() -> None:
    port = free_port()
    assert not await is_ready(f"http://127.0.0.1:{port}/readyz")
    assert not await is_ready(f"kafka://127.0.0.1:{port}")
    assert await is_ready("")


def up(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "weir.cli.main", "up"],
        env=bare_environ(WEIR_DATA_DIR=str(folder), **settings),
        capture_output=True,
        text=True,
        timeout=60,
    )


def free_ports() -> dict[str, str]:
    return {f"WEIR_{name}_PORT": str(free_port()) for name in ("GATEWAY", "CLICKHOUSE", "KAFKA")}


@pytest.mark.parametrize("name", ["GATEWAY", "CLICKHOUSE", "KAFKA"])
def test_up_exits_with_1_when_a_port_is_in_use(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        variable = f"WEIR_{name}_PORT"
        ended = up(tmp_path, **(free_ports() | {variable: str(taken.getsockname()[1])}))
    assert ended.returncode == 1
    assert f"or set {variable} to another port." in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_up_exits_with_1_when_another_up_has_claimed_a_port(tmp_path: Path) -> None:
    """A port that another `weir up` has claimed is taken even before it listens."""
    ports, claims = free_ports(), PortClaims("with data in /elsewhere")
    claims.require(int(ports["WEIR_KAFKA_PORT"]), "the Kafka broker", "WEIR_KAFKA_PORT")
    try:
        ended = up(tmp_path, **ports)
    finally:
        claims.release()
    assert ended.returncode == 1
    other = f"another `weir up` (process {os.getpid()} with data in /elsewhere)"
    assert f"meant for the Kafka broker, is in use by {other}: stop" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_up_exits_with_1_when_the_data_folder_is_in_use(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, "up.lock")
    ended = up(tmp_path, **free_ports())
    lock.release()
    assert ended.returncode == 1
    assert "or set WEIR_DATA_DIR to another folder." in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_up_exits_with_1_without_java(tmp_path: Path) -> None:
    ended = up(tmp_path, PATH=str(tmp_path), JAVA_HOME="", **free_ports())
    assert ended.returncode == 1
    assert "install a JDK 17 or newer" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_up_exits_with_1_without_maven_and_jars(tmp_path: Path) -> None:
    home = jdk(tmp_path / "jdk", "17.0.1")
    settings = {"PATH": str(tmp_path), "JAVA_HOME": str(home), "XDG_CACHE_HOME": str(tmp_path)}
    ended = up(tmp_path, **settings, **free_ports())
    assert ended.returncode == 1
    assert "install Apache Maven" in ended.stderr
    assert not (tmp_path / "up.json").exists()


@pytest.mark.parametrize(("seconds", "audits"), [(0, []), (30, ["--watch --every 30"])])
def test_up_runs_an_audit_process_unless_audit_seconds_is_0(
    seconds: int, audits: list[str]
) -> None:
    programs = Programs(
        CommonSettings(),
        KafkaSettings(),
        ClickHouseSettings(),
        GatewaySettings(),
        WarehouseSettings(),
        UpSettings(audit_seconds=seconds, metrics_base_port=0),
    )
    specs = programs.gateway_and_workers()
    found = [" ".join(spec.arguments[3:]) for spec in specs if spec.name == "audit"]
    assert found == audits
    ports = [spec.metrics_port for spec in specs]
    assert len(set(ports)) == len(ports) == 6 + len(audits)


def test_a_childs_grace_period_is_longer_than_its_drain() -> None:
    programs = Programs(
        CommonSettings(),
        KafkaSettings(),
        ClickHouseSettings(),
        GatewaySettings(gateway_drain_seconds=100),
        WarehouseSettings(warehouse_drain=200),
        UpSettings(metrics_base_port=0),
    )
    (gateway,) = [s for s in programs.gateway_and_workers() if s.name == "gateway"]
    warehouse = programs.warehouse()
    assert gateway.grace_seconds > 100
    assert warehouse is not None
    assert warehouse.grace_seconds > 200


def test_the_requirements_check_reports_each_missing_tool_in_one_line(tmp_path: Path) -> None:
    """`make up` and `make test` run this check first, so that not every test fails."""
    environ = bare_environ(PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    environ.pop("JAVA_HOME", None)
    command = [sys.executable, "-m", "weir.embedded.kafka.requirements"]
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    java, maven = result.stderr.splitlines()
    assert (result.returncode, result.stdout) == (1, "")
    assert "install a JDK 17 or newer" in java
    assert "install Apache Maven" in maven
    jdk(tmp_path / "jdk", "21")
    program(tmp_path / "mvn", "exit 1")
    environ["JAVA_HOME"] = str(tmp_path / "jdk")
    assert subprocess.run(command, env=environ, check=False).returncode == 0
