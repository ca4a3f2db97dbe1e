"""Finds the two programs that the embedded broker needs and that Weir cannot ship: a JDK and Maven."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from weir.embedded.errors import LocalFaultError

LEAST_JAVA = 17
INSTALL_JAVA = (
    f"install a JDK {LEAST_JAVA} or newer (Debian: `apt install openjdk-17-jdk-headless`, "
    "macOS: `brew install openjdk`), or point JAVA_HOME at one"
)
INSTALL_MAVEN = "install Apache Maven (Debian: `apt install maven`, macOS: `brew install maven`)"


def find_java() -> str:
    """Return the `java` to run, at least version `LEAST_JAVA`. `LocalFaultError` says what to install."""
    home = os.environ.get("JAVA_HOME")
    inside = Path(home, "bin", "java") if home else None
    java = str(inside) if inside and os.access(inside, os.X_OK) else shutil.which("java")
    if java is None:
        raise LocalFaultError(f"The embedded Kafka broker needs Java: {INSTALL_JAVA}.")
    version = java_version(java)
    if version is None or version < LEAST_JAVA:
        found = f"{java} is version {version}" if version else f"{java} does not run"
        raise LocalFaultError(
            f"The embedded Kafka broker needs Java {LEAST_JAVA}, and {found}: {INSTALL_JAVA}."
        )
    return java


def java_version(java: str) -> int | None:
    """Return the major version of a `java`; None if it does not run."""
    release = Path(java).resolve().parents[1] / "release"
    try:  # a file of the JDK has the version: half a second faster than `java -version`
        text = release.read_text()
    except OSError:
        text = _ask_version(java)
    match = re.search(r'version[= ]"(\d+)(?:\.(\d+))?', text, re.IGNORECASE)
    if match is None:
        return None
    major = int(match[1])
    return int(match[2] or 0) if major == 1 else major  # 1.8 is Java 8


def _ask_version(java: str) -> str:
    try:
        asked = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stderr


def find_maven() -> str:
    """Return the `mvn` to run. `LocalFaultError` says what to install."""
    maven = shutil.which("mvn")
    if maven is None:
        raise LocalFaultError(
            f"Maven is needed once, to fetch the embedded broker's jars: {INSTALL_MAVEN}."
        )
    return maven
