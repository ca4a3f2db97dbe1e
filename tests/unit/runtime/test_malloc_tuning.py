"""Freed memory returns to the operating system, also that of ended threads."""

import subprocess
import sys

from weir.core.resource_paths import ROOT

# Blocks of every size from a thread each; the last is small, and lies above them in the thread's heap.
PROGRAM = """
import threading, psutil
from weir.runtime.malloc_tuning import give_back_large_blocks

def take(kept, size):
    blocks = [bytes(size) for _ in range(8)]
    kept.append(bytes(60_000))

assert give_back_large_blocks()
kept = []
bytes(16 << 20)
before = psutil.Process().memory_info().rss
for round in range(8):
    threads = [threading.Thread(target=take, args=(kept, 2 << 20)) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print((psutil.Process().memory_info().rss - before) >> 20)
"""


def test_freed_large_blocks_return_to_the_operating_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 24  # MiB; of 128 taken at once
