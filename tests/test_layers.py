"""Every import obeys the table of allowed imports below; `docs/architecture.md` has the picture."""

import ast
import re
from pathlib import Path

import pytest

from weir.core.resource_paths import ROOT
from weir.core.stages import STAGES

PACKAGE = Path(__file__).parents[1] / "services" / "weir"

# Each folder may import itself and what stands in its line, and nothing else of Weir. What is imported
# stands above whoever imports it, so there are no circles.
SERVES_ALL = ("core", "settings", "runtime", "adapters")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "core": (),
    "settings": ("core",),
    "runtime": ("core", "settings"),
    "adapters": ("core", "settings", "runtime"),
    "service_main": SERVES_ALL,
    # features: each has its model, its queries, and its service if it has one
    "registry": SERVES_ALL,
    "event_status": SERVES_ALL,
    "audit": SERVES_ALL,
    "erasure": (*SERVES_ALL, "service_main", "registry"),
    # services: none knows another
    "dedup": (*SERVES_ALL, "service_main"),
    "identity": (*SERVES_ALL, "service_main", "registry"),
    "rates": (*SERVES_ALL, "service_main", "registry"),
    "sink": (*SERVES_ALL, "service_main"),
    "gateway": (*SERVES_ALL, "registry", "event_status", "erasure"),
    # what does again what services have done
    "redelivery": (*SERVES_ALL, "gateway"),
    "backfill": (
        *(*SERVES_ALL, "registry", "erasure", "redelivery"),
        *("dedup", "identity", "sink"),
    ),
    "cli": (
        *(*SERVES_ALL, "registry", "event_status", "audit", "erasure", "redelivery", "backfill"),
        *("gateway", "sink"),
    ),
    "embedded": (*SERVES_ALL, "registry", "sink", "cli"),
}
# Inside these folders, each file and folder may import itself and those before it. Between brackets stand those
# that may not import each other.
ORDER_INSIDE: dict[str, tuple[str | tuple[str, ...], ...]] = {
    "gateway": (
        *("metrics", "http", "ingest", "registry_copy", "doors", "api"),
        *("app_context", "ingest_handler", "routes", "app", "server", "processes", "__main__"),
    ),
    "gateway/doors": (
        *("answers", "door"),
        (
            *("cloudevents", "events", "hackle", "hitkeep", "segment", "suprsend", "tracardi"),
            *("userflux", "webhook"),
        ),
    ),
    "adapters": (
        *("errors", "watchdog", "avro_catalogue", "avro", "record_origin", "dead_letters"),
        *("usage_records", "receipt_records", "rocksdb_expiry", "rocksdb"),
        ("kafka", "clickhouse", "gateway_client", "memory", "memory_sink"),
    ),
    "embedded": ("errors", "ports", "readiness", ("kafka", "clickhouse"), "up"),
}
WORKERS = tuple(stage.name for stage in STAGES)
CLIENT_LIBRARIES = {
    "confluent_kafka",
    "fastavro",
    "clickhouse_connect",
    "rocksdict",
    "cryptography",
}
# an adapter is one technology; a feature's queries are its own
KNOW_CLIENT_LIBRARIES = {
    *("adapters", "registry", "event_status", "audit", "erasure", "redelivery", "backfill")
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms(path: Path) -> set[str]:
    """The folders of Weir that a module imports."""
    names = (name.split(".") for name in imports(path))
    return {name[1] for name in names if name[0] == "weir" and len(name) > 1}


def modules(room: str) -> list[Path]:
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def members(folder: str) -> set[str]:
    """The files and folders of a folder, without suffixes."""
    return {
        path.stem
        for path in (PACKAGE / folder).iterdir()
        if path.stem not in ("__init__", "__pycache__")
        and (path.suffix == ".py" or any(path.rglob("*.py")))
    }


def test_the_import_table_lists_every_folder_after_the_folders_it_imports() -> None:
    there_are = {path.stem for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert set(MAY_IMPORT) == there_are - {"__init__", "__main__", "py", "resources"}
    seen: set[str] = set()
    for room, allowed in MAY_IMPORT.items():
        assert set(allowed) <= seen, f"{room} stands above what it imports"
        seen.add(room)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_folder_imports_only_the_folders_the_table_allows(room: str) -> None:
    found = modules(room)
    assert found
    for path in found:
        beyond = rooms(path) - {room, *MAY_IMPORT[room]}
        assert not beyond, f"{path} imports {beyond}"


@pytest.mark.parametrize("folder", ORDER_INSIDE)
def test_modules_of_a_folder_import_only_modules_listed_before_them(folder: str) -> None:
    below: set[str] = set()
    for group in ORDER_INSIDE[folder]:
        names = (group,) if isinstance(group, str) else group
        for name in names:
            found = modules(f"{folder}/{name}")
            assert found
            for path in found:
                depth = folder.count("/") + 2  # of the name in `weir.<folder>.<name>`
                there = ["weir", *folder.split("/")]
                parts = (module.split(".") for module in imports(path))
                used = {part[depth] for part in parts if part[:depth] == there and part[depth:]}
                beyond = (used & members(folder)) - below - {name}
                assert not beyond, f"{path} imports {beyond}"
        below |= set(names)
    assert below == members(folder)


@pytest.mark.parametrize("path", modules("core"), ids=str)
def test_core_imports_no_client_library_clock_randomness_or_io(path: Path) -> None:
    assert not imports(path) & (CLIENT_LIBRARIES | {"aiohttp", "time", "random", "os", "asyncio"})


@pytest.mark.parametrize("worker", WORKERS)
def test_a_step_imports_only_core_and_its_own_folder(worker: str) -> None:
    assert rooms(PACKAGE / worker / "step.py") <= {"core", worker}


def test_only_adapters_and_features_import_client_libraries() -> None:
    for room in MAY_IMPORT.keys() - KNOW_CLIENT_LIBRARIES:
        for path in modules(room):
            used = {name.split(".")[0] for name in imports(path)} & CLIENT_LIBRARIES
            assert not used, f"{path} imports {used}"


def test_a_class_or_alias_name_is_defined_in_only_one_file() -> None:
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            name = ""
            if isinstance(node, ast.ClassDef):
                name = node.name
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
            name = name.lstrip("_")
            if re.fullmatch(r"[A-Z][a-z]\w*", name):
                found.setdefault(name, set()).add(str(path.relative_to(PACKAGE)))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def test_the_architecture_page_has_the_table_of_imports() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    _, _, table = page.partition("| folder | may import |\n|---|---|\n")
    found: dict[str, tuple[str, ...]] = {}
    for line in table.partition("\n\n")[0].splitlines():
        _, folders, allowed, _ = line.split("|")
        names = re.findall(r"`(\w+)`", allowed)
        four = SERVES_ALL if "the four" in allowed else ()
        found |= dict.fromkeys(re.findall(r"`(\w+)`", folders), (*four, *names))
    assert found == MAY_IMPORT
