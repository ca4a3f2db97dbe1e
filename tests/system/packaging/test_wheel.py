"""A wheel contains every file and runs in an empty environment without a checkout.

Its dependencies are those of the tests' environment, so that nothing is downloaded.
"""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.running import bare_environ, free_port, start_process, wait_until
from weir.core.resource_paths import ROOT

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
OFFLINE = ("--no-index", "--no-deps")
BUILT_FROM = ("services", "schemas", "deploy", "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Installed:
    wheel: Path
    weir: Path
    folder: Path  # empty, to run in


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    source, environment = folder / "source", folder / "environment"
    source.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copyfile(ROOT / name, source / name)
    build = [*PIP, "wheel", *OFFLINE, "--no-build-isolation", "-w", str(folder), str(source)]
    subprocess.run(build, check=True, timeout=120)
    shutil.rmtree(source)  # what it needs, it brings along
    (wheel,) = folder.glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=120
    )
    python = environment / "bin" / "python"
    install = [*PIP, "--python", str(python), "install", *OFFLINE, str(wheel)]
    subprocess.run(install, check=True, timeout=120)
    (packages,) = environment.glob("lib/python*/site-packages")
    # a path alone: the checkout, which the tests' environment knows as well, is not on it
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run_in = folder / "empty"
    run_in.mkdir()
    return Installed(wheel, environment / "bin" / "weir", run_in)


def test_the_wheel_contains_every_resource_and_source_file(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = set(wheel.namelist())
    for folder in ("schemas", "deploy"):
        files = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert len(files) > 5
        assert {f"weir/resources/{path}" for path in files} <= names
    source = ROOT / "services"
    code = {str(path.relative_to(source)) for path in source.rglob("*.py")}
    assert code <= names
    assert {name.split("/")[0].rpartition(".")[2] for name in names} == {"weir", "dist-info"}


def test_weir_up_starts_from_an_installed_wheel(installed: Installed) -> None:
    """The start reads topics, tables, sources, schemas and the broker's files from the wheel."""
    environ = bare_environ(
        WEIR_DATA_DIR=str(installed.folder / "data"),
        WEIR_METRICS_BASE_PORT="0",
        **{f"WEIR_{name}_PORT": str(free_port()) for name in ("GATEWAY", "CLICKHOUSE", "KAFKA")},
    )
    environ.pop("PYTHONPATH", None)
    command = [
        "/bin/sh",
        "-c",
        'cd "$0" && exec "$1" up',
        str(installed.folder),
        str(installed.weir),
    ]
    weir = start_process(command, installed.folder / "up.log", environ)

    def is_up() -> bool:
        assert weir.running, weir.said()
        return "Weir is up" in weir.said()

    try:
        wait_until(is_up, 120, "weir up")
        result = subprocess.run(
            [str(installed.weir), "audit"],
            cwd=installed.folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert "The books balance." in result.stdout, result.stdout + result.stderr
    finally:
        code = weir.stop(60)
    assert code == 0, weir.said()
    assert str(ROOT) not in weir.said()
