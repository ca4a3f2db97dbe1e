"""Ends every process group it was told of, as soon as whoever started it is gone.

Reads lines `+pid` and `-pid` from its standard input. The kernel closes that pipe when the
supervisor dies, however it dies, so not even `kill -9` leaves anything running. Standard library
alone, run without site packages: it idles in a blocking read at a few megabytes.
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
