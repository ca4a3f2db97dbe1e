"""Print a line for each program that the embedded broker needs and that is missing."""

import sys
from collections.abc import Callable

from weir.embedded.errors import LocalFaultError
from weir.embedded.kafka.kafka_download import jars_folder
from weir.embedded.kafka.toolchain import find_java, find_maven


def missing() -> list[str]:
    """Return what to install, one sentence per program; Maven only if the jars are not there yet."""
    needed: list[Callable[[], str]] = [find_java]
    if not jars_folder().is_dir():
        needed.append(find_maven)
    faults = []
    for find in needed:
        try:
            find()
        except LocalFaultError as fault:
            faults.append(str(fault))
    return faults


if __name__ == "__main__":
    sys.exit("\n".join(missing()) or 0)
