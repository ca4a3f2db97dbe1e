"""The lock files, the Dockerfile and the compose file keep their promises, checked by reading them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from weir.cli.topics import TOPICS_FILE, read_topics
from weir.core.resource_paths import DEPLOY, ROOT
from weir.registry.sources_file import read_sources
from weir.settings.embedded_clickhouse import WarehouseSettings
from weir.settings.gateway import GatewaySettings
from weir.settings.shared import WorkerSettings

LOCKS = [
    ROOT / "requirements.txt",
    ROOT / "requirements-dev.txt",
    ROOT / "tests" / "clients" / "requirements.txt",
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRY = re.compile(r"([a-z0-9.-]+)==(\S+?)(?: ; [^\\]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def pins(lock: Path) -> dict[str, str]:
    """Every line of a lock file is a comment, a pin or a hash; a pin has a hash at least."""
    found: dict[str, str] = {}
    hashed: set[str] = set()
    name = ""
    for line in lock.read_text().splitlines():
        if line.startswith("#"):
            continue
        if entry := ENTRY.fullmatch(line):
            name = entry[1]
            found[name] = entry[2]
        else:
            assert HASH.fullmatch(line), f"{lock.name}: {line}"
            hashed.add(name)
    assert hashed == set(found)
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_dependency_has_hashes_and_names_no_registry(lock: Path) -> None:
    assert len(pins(lock)) > 10
    assert "://" not in lock.read_text()
    assert not re.search(r"^-", lock.read_text(), re.MULTILINE)  # no index, no other file


def test_runtime_dependencies_have_the_versions_that_are_tested() -> None:
    run, tested = (pins(lock) for lock in LOCKS[:2])
    assert run.items() <= tested.items()


def test_every_requirement_of_the_project_is_locked() -> None:
    """Every requirement of pyproject.toml is in its lock file; if not, run `make lock`."""
    extras = PROJECT["project"]["optional-dependencies"]
    for requirements, lock in (
        (PROJECT["project"]["dependencies"] + extras["build"], LOCKS[0]),
        (extras["dev"], LOCKS[1]),
    ):
        names = {re.split(r"[<>=]", text)[0].lower() for text in requirements}
        assert names <= set(pins(lock))


def test_the_build_backend_is_the_locked_one() -> None:
    (backend,) = PROJECT["build-system"]["requires"]
    assert PROJECT["project"]["optional-dependencies"]["build"] == [backend]
    assert backend == f"setuptools=={pins(LOCKS[0])['setuptools']}"


@pytest.mark.parametrize("path", [ROOT / "Makefile", DEPLOY / "Dockerfile"], ids=lambda p: p.name)
def test_pip_installs_only_hashed_packages_or_the_project_itself(path: Path) -> None:
    installs = re.findall(r"pip install .*|^INSTALL := .*", path.read_text(), re.MULTILINE)
    assert len(installs) >= 2
    for line in installs:
        of_the_lock = "--require-hashes" in line and "--only-binary :all:" in line
        of_this_folder = "--no-deps" in line and "--no-build-isolation" in line
        assert of_the_lock or of_this_folder, line


def test_the_images_user_owns_its_data() -> None:
    lines = DOCKERFILE.splitlines()
    made = next(n for n, line in enumerate(lines) if "install -d -o weir" in line)
    user = lines.index("USER 10001:10001")  # a number: orchestrators see that it is not root
    assert "-m 0700 /data" in lines[made]
    assert "useradd --uid 10001" in DOCKERFILE
    assert made < user < lines.index("VOLUME /data")
    assert "WEIR_DATA_DIR=/data" in DOCKERFILE


def test_dockerignore_allows_exactly_what_the_dockerfile_copies() -> None:
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = {
        name
        for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
        for name in line.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_stop_grace_period_is_longer_than_the_drain(name: str) -> None:
    longest = max(
        GatewaySettings().gateway_drain_seconds,
        2 * WorkerSettings().transaction_seconds,
        WarehouseSettings().warehouse_drain,
    )
    assert seconds(OURS[name]["stop_grace_period"]) > longest


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"setup"}))
def test_every_service_has_a_health_check(name: str) -> None:
    service = SERVICES[name]
    check = service["healthcheck"]
    assert seconds(check["timeout"]) <= seconds(check["interval"])
    assert service["restart"] == "unless-stopped"
    if name in OURS:
        port = "8080" if name == "gateway" else service["environment"]["WEIR_METRICS_PORT"]
        assert f"127.0.0.1:{port}/readyz" in check["test"][-1]
        compile(check["test"][-1], "healthcheck", "exec")


def test_every_stateful_compose_service_has_a_volume() -> None:
    kept = {
        name: volume.split(":")[1]
        for name, service in SERVICES.items()
        for volume in service.get("volumes", [])
        if volume.split(":")[0] in COMPOSE["volumes"]
    }
    assert {name for name, path in kept.items() if path == "/data"} == {
        "dedup",
        "identity",
        "rates",
    }
    assert {"kafka-1", "kafka-2", "kafka-3", "clickhouse"} <= set(kept)


def test_the_compose_setup_uses_production_topics_and_sources_without_keys() -> None:
    (command,) = [part for part in SERVICES["setup"]["entrypoint"] if "weir" in part]
    assert "topics apply --profile production" in command
    topics = read_topics(TOPICS_FILE, "production")
    brokers = [name for name, service in SERVICES.items() if "kafka" in service.get("image", "")]
    assert len(brokers) == max(topic.replicas for topic in topics)
    (mounted,) = SERVICES["setup"]["volumes"]
    default, target = re.fullmatch(r"\$\{WEIR_SOURCES_FILE:-\./(.+?)\}:(\S+):ro", mounted).groups()  # type: ignore[union-attr]
    assert command.endswith(f"weir apply {target}")
    sources = read_sources(DEPLOY / default)
    assert sources
    for source in sources.values():
        hashes = (*source.write_key_hashes, *source.read_key_hashes, *source.admin_key_hashes)
        assert hashes == ()
        assert not source.open_by_id
    for path in (DEPLOY / default, DEPLOY / "compose.yaml", DEPLOY / "Dockerfile"):
        assert "demo" not in path.read_text()


def test_compose_publishes_ports_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
