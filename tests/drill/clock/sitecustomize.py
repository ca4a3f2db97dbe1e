"""On a process's path, this shifts its time of day by the seconds (a double) in the file DRILL_CLOCK."""

import mmap
import os
import struct
import time

with open(os.environ["DRILL_CLOCK"], "rb") as file:
    _offset = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
_time, _time_ns = time.time, time.time_ns


def _seconds() -> float:
    (seconds,) = struct.unpack("d", _offset[:8])
    return float(seconds)


def _shifted() -> float:
    return _time() + _seconds()


def _shifted_ns() -> int:
    return _time_ns() + int(_seconds() * 1e9)


time.time = _shifted
time.time_ns = _shifted_ns
