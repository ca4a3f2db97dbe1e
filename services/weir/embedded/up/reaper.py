"""Kills all registered process groups as soon as the supervisor that started this process is gone.

Reads lines `+pid` and `-pid` from its standard input. The kernel closes that pipe when the
supervisor dies, for any reason, so not even `kill -9` leaves anything running. It uses only the
standard library and runs without site packages, so it idles in a blocking read at a few megabytes.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
