"""What processes use: CPU time, memory, and what they count themselves. Read from outside."""

import http.client
import math
import platform
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

MIB = 1 << 20
SAMPLE_SECONDS = 0.1


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of its children so far; 0 once it is gone."""
    total = 0.0
    for process in _family(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def memory_mib(pid: int) -> float:
    """Resident memory of a process and of its children."""
    total = 0
    for process in _family(pid):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total / MIB


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


@dataclass
class Use:
    """What one process used while it was watched."""

    cpu_seconds: float
    rest_mib: float
    peak_mib: float


class Watch:
    """Watches processes from `with` on; `uses()` says what they used until now."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._rest = {name: memory_mib(pid) for name, pid in pids.items()}
        self._peak = dict(self._rest)
        self._cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def uses(self) -> dict[str, Use]:
        return {
            name: Use(cpu_seconds(pid) - self._cpu[name], self._rest[name], self._peak[name])
            for name, pid in self._pids.items()
        }

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            for name, pid in self._pids.items():
                self._peak[name] = max(self._peak[name], memory_mib(pid))


@dataclass
class Probe:
    """A service's own HTTP port: whether it is ready, and what it counts."""

    port: int
    ready_path: str = "/readyz"

    def ready(self) -> bool:
        try:
            return self._get(self.ready_path)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def total(self, metric: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        _, text = self._get("/metrics")
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        total = 0.0
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            if name.partition("{")[0] == metric and all(label in name for label in wanted):
                total += float(value)
        return total

    def _get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; nan of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def per_event(use: Use, events: float) -> float:
    """CPU microseconds an event."""
    return use.cpu_seconds * 1e6 / events if events else math.nan


def machine() -> dict[str, object]:
    """What the figures are of."""
    model = ""
    with suppress(OSError):
        names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
        model = names[0].partition(":")[2].strip() if names else ""
    return {
        "cpu": model or platform.processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": [round(load, 2) for load in psutil.getloadavg()],
    }
