"""Arrows point one way: wiring -> edge and runtime -> core. Each rule names what a folder may import."""

import ast
from pathlib import Path

import pytest
from weir.core.stages import STAGES

SERVICES = Path(__file__).parents[1] / "services"
WORKERS = tuple(stage.name for stage in STAGES)
SETTINGS = {"weir.settings.environment", "weir.settings.shared", "weir.runtime.logs"}
CLIENTS = {"confluent_kafka", "fastavro", "clickhouse_connect", "rocksdict", "cryptography"}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.startswith("services.")}


def modules(folder: str) -> list[Path]:
    return sorted((SERVICES / folder).rglob("*.py"))


def under(names: set[str], *folders: str) -> set[str]:
    return {
        n for n in names for f in folders if n == f"services.{f}" or n.startswith(f"services.{f}.")
    }


@pytest.mark.parametrize("path", modules("core"), ids=str)
def test_core_imports_nothing_but_core_and_msgspec(path: Path) -> None:
    assert ours(path) == under(ours(path), "core")
    assert not imports(path) & (CLIENTS | {"aiohttp", "time", "random", "os", "asyncio"})


@pytest.mark.parametrize("path", modules("runtime"), ids=str)
def test_runtime_knows_order_not_technology(path: Path) -> None:
    assert ours(path) == under(ours(path), "core", "runtime")
    assert not imports(path) & CLIENTS


@pytest.mark.parametrize("path", modules("edge"), ids=str)
def test_edge_imports_core_ports_and_settings_alone(path: Path) -> None:
    allowed = SETTINGS | {"weir.runtime.ports", "weir.sink.ports", "weir.runtime"}
    beyond = ours(path) - under(ours(path), "core", "edge")
    assert {n for n in beyond if not any(n == a or n.startswith(a + ".") for a in allowed)} == set()


@pytest.mark.parametrize("path", [SERVICES / w / "step.py" for w in WORKERS], ids=str)
def test_a_step_imports_core_and_its_own_package(path: Path) -> None:
    assert ours(path) == under(ours(path), "core", path.parent.name)


@pytest.mark.parametrize("worker", [*WORKERS, "gateway", "eraser"])
def test_services_do_not_import_each_other(worker: str) -> None:
    others = [
        name for name in (*WORKERS, "gateway", "eraser", "warehouse", "local") if name != worker
    ]
    for path in modules(worker):
        assert not under(ours(path), *others), path


def test_client_libraries_are_imported_in_edge_alone() -> None:
    for path in sorted(SERVICES.rglob("*.py")):
        if "edge" not in path.parts:
            used = {name.split(".")[0] for name in imports(path)} & CLIENTS
            assert not used, f"{path} imports {used}"
