"""The class archive is optional: without it the broker still starts, and Java is tried only once."""

from pathlib import Path

from weir.embedded.kafka.class_archive import archive_path, class_archive
from weir.runtime.folder_lock import FolderLock


def failing_java(folder: Path) -> tuple[str, Path]:
    """A `java` that fails, and a file that gets a line each time it is run."""
    runs = folder / "runs"
    runs.touch()
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho run >> {runs}\nexit 1\n")
    java.chmod(0o700)
    return str(java), runs


def test_a_java_that_cannot_create_the_archive_is_tried_once(tmp_path: Path) -> None:
    java, runs = failing_java(tmp_path)
    jars = tmp_path / "jars"

    assert class_archive(java, jars) is None
    asked = runs.read_text()
    assert asked
    assert class_archive(java, jars) is None
    assert runs.read_text() == asked


def test_a_changed_java_gets_another_archive_path(tmp_path: Path) -> None:
    java, _ = failing_java(tmp_path)
    path = archive_path(java, tmp_path)
    Path(java).write_text("#!/bin/sh\nexit 2\n")
    assert archive_path(java, tmp_path) != path


def test_no_process_waits_while_another_one_creates_the_archive(tmp_path: Path) -> None:
    java, runs = failing_java(tmp_path)
    jars = tmp_path / "jars"
    lock = FolderLock(jars, f"{archive_path(java, jars).name}.lock")
    assert class_archive(java, jars) is None
    lock.release()
    assert runs.read_text() == ""


def test_an_existing_archive_is_used_without_running_java(tmp_path: Path) -> None:
    java, runs = failing_java(tmp_path)
    archive_path(java, tmp_path).write_bytes(b"classes")
    assert class_archive(java, tmp_path) == archive_path(java, tmp_path)
    assert runs.read_text() == ""
