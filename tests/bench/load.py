"""A load generator for the gateway: deterministic events, keep-alive connections, one request each in flight.

`python -m tests.bench.load --help`; or call `run_load` from another bench, or `run_apart` to have it in
a process of its own. It builds all requests before it starts, so that it costs the machine little.
"""

import argparse
import asyncio
import json
import multiprocessing
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import cast
from urllib.parse import urlsplit

import psutil
import uvloop

from tests.bench.wires import EVENT_BYTES, PLACEHOLDER, WIRES, Sender, make_body

BODIES = 200  # different requests; they are sent over and over, with ids of their own each time


@dataclass(frozen=True)
class Load:
    """What to send: `seconds` or `requests`, whichever comes first; `rate` in requests/s, 0: all it can."""

    url: str
    key: str
    connections: int = 32
    batch: int = 1
    seconds: float = 5.0
    requests: int = 0
    rate: float = 0.0
    warmup_seconds: float = 1.0
    gateway_pids: tuple[int, ...] = ()
    first_id: int = 0
    event_bytes: int = EVENT_BYTES
    wire: str = "events"  # of WIRES: in whose words
    source: str = ""  # its id and its signing secret, for wires that say so
    secret: str = ""


@dataclass
class LoadResult:
    """What came of it; latencies in milliseconds, CPU in microseconds. After the warm-up only."""

    seconds: float = 0.0
    requests: int = 0
    events: int = 0
    requests_per_second: float = 0.0
    events_per_second: float = 0.0
    p50_ms: float = 0.0
    p90_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    gateway_cpu_us_per_event: float = 0.0
    gateway_cpu_us_per_request: float = 0.0
    gateway_memory_mb: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    sent_in_all: int = 0  # events answered 2xx, warm-up included
    first_unused_id: int = 0


class Requests:
    """Ready-made requests; every event of every request has an id that was not used before."""

    def __init__(self, load: Load) -> None:
        address = urlsplit(load.url)
        self.host, self.port = address.hostname or "127.0.0.1", address.port or 80
        self.next_id = load.first_id
        self._batch = load.batch
        self._path = address.path or "/v1/events"
        self._wire = wire = WIRES[load.wire]
        self._sender = sender = Sender(load.source, load.key, load.secret)
        self._bodies = []
        for number in range(max(1, BODIES // load.batch)):
            body = make_body(number * load.batch, load.batch, load.event_bytes, wire, sender)
            head = (
                f"POST {self._path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
                f"Content-Type: {wire.content_type}\r\nUser-Agent: weir-load\r\n"
                f"Content-Length: {len(body)}\r\n"
            )
            if wire.authorization is not None:
                head += f"Authorization: {wire.authorization(sender)}\r\n"
            self._bodies.append((head.encode(), body.split(PLACEHOLDER)))

    def take(self) -> bytes:
        head, pieces = self._bodies[self.next_id // self._batch % len(self._bodies)]
        first = self.next_id
        self.next_id += self._batch
        parts = [pieces[0]]
        for offset, piece in enumerate(pieces[1:]):
            parts.append(b"%012d" % (first + offset))
            parts.append(piece)
        if self._wire.sign is None:
            return b"".join((head, b"\r\n", *parts))
        body = b"".join(parts)
        return head + self._wire.sign(self._sender, self._path, body) + b"\r\n" + body


def is_good(status: int) -> bool:
    return 200 <= status < 300


class _Meter:
    """Counts answers once the warm-up is over."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.latencies: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.accepted_in_all = 0
        self.sent = 0
        self.measuring = False
        self.over = False

    def answered(self, status: int, seconds: float) -> None:
        if is_good(status):
            self.accepted_in_all += self.load.batch
        if self.measuring:
            self.statuses[status] += 1
            self.latencies.append(seconds)


class _Connection(asyncio.Protocol):
    """One request in flight at a time; the next as soon as the answer is whole."""

    def __init__(self, requests: Requests, meter: _Meter) -> None:
        self._requests = requests
        self._meter = meter
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._sent_at = 0.0
        self.idle = True
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only

    def send(self) -> None:
        assert self._transport is not None
        self.idle = False
        self._meter.sent += 1
        self._sent_at = time.perf_counter()
        self._transport.write(self._requests.take())

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            self._received = received
            return
        at = received.lower().index(b"content-length:") + 15
        size = int(received[at : received.index(b"\r\n", at)])
        if len(received) < end + 4 + size:
            self._received = received
            return
        self._received = b""
        self._meter.answered(int(received[9:12]), time.perf_counter() - self._sent_at)
        self.idle = True
        load = self._meter.load
        enough = load.requests and self._meter.sent >= load.requests
        if self._meter.over or enough:
            self.finish()
        elif not load.rate:
            self.send()

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the gateway hung up"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def _pace(connections: list[_Connection], meter: _Meter) -> None:
    """Open loop: a request every 1/rate seconds on a free connection."""
    loop = asyncio.get_running_loop()
    started, sent = loop.time(), 0
    while not meter.over:
        due = int((loop.time() - started) * meter.load.rate)
        for connection in connections:
            if sent >= due:
                break
            if connection.idle:
                connection.send()
                sent += 1
        await asyncio.sleep(0.001)
    for connection in connections:
        if connection.idle:
            connection.finish()


async def _run(load: Load) -> LoadResult:
    loop = asyncio.get_running_loop()
    requests, meter = Requests(load), _Meter(load)
    connections: list[_Connection] = []
    for _ in range(load.connections):
        _, connection = await loop.create_connection(
            lambda: _Connection(requests, meter), requests.host, requests.port
        )
        connections.append(connection)
    gateway = [psutil.Process(pid) for pid in load.gateway_pids]
    pacing = asyncio.create_task(_pace(connections, meter)) if load.rate else None
    if not load.rate:
        for connection in connections:
            connection.send()
    finished = asyncio.gather(*(connection.done for connection in connections))
    await asyncio.wait([finished], timeout=load.warmup_seconds)
    meter.measuring = True
    cpu, started = _cpu_seconds(gateway), time.perf_counter()
    await asyncio.wait([finished], timeout=load.seconds)
    meter.measuring = False
    seconds, cpu = time.perf_counter() - started, _cpu_seconds(gateway) - cpu
    memory = sum(process.memory_info().rss for process in gateway)
    meter.over = True
    await finished
    if pacing is not None:
        await pacing
    for connection in connections:
        connection.close()
    result = _result(meter, seconds, cpu)
    result.gateway_memory_mb = memory / 1e6
    result.first_unused_id = requests.next_id
    return result


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _result(meter: _Meter, seconds: float, cpu: float) -> LoadResult:
    latencies = sorted(meter.latencies)
    count = len(latencies)
    events = sum(n for status, n in meter.statuses.items() if is_good(status)) * meter.load.batch

    def percentile(share: float) -> float:
        return latencies[min(count - 1, int(count * share))] * 1e3 if count else 0.0

    return LoadResult(
        seconds=seconds,
        requests=count,
        events=events,
        requests_per_second=count / seconds,
        events_per_second=events / seconds,
        p50_ms=percentile(0.5),
        p90_ms=percentile(0.9),
        p99_ms=percentile(0.99),
        max_ms=percentile(1),
        gateway_cpu_us_per_event=cpu / events * 1e6 if events else 0.0,
        gateway_cpu_us_per_request=cpu / count * 1e6 if count else 0.0,
        statuses=dict(meter.statuses),
        sent_in_all=meter.accepted_in_all,
    )


def run_load(load: Load) -> LoadResult:
    """Send, in this process, and say what came of it."""
    result: LoadResult = uvloop.run(_run(load))
    return result


def run_apart(load: Load) -> LoadResult:
    """As `run_load`, in a process of its own, so that neither costs the other."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run_load, (load,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8080/v1/events")
    parser.add_argument("--key", default="demo-write-key")
    parser.add_argument("--wire", choices=list(WIRES), default="events")
    parser.add_argument("--source", default="demo")
    parser.add_argument("--secret", default="")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--first-id", type=int, default=0)
    parser.add_argument("--gateway-pids", type=int, nargs="*", default=[])
    given = vars(parser.parse_args())
    load = Load(**{**given, "gateway_pids": tuple(given["gateway_pids"])})
    print(json.dumps(asdict(run_load(load)), indent=2))


if __name__ == "__main__":
    main()
