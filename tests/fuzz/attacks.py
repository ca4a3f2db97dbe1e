"""What hostile clients do with many connections at once: crawl, never read, and send what grows."""

import asyncio
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

import brotli
import zstandard

from tests.fuzz.oracle import check_answer, read_answers
from tests.fuzz.place import HANG_SECONDS, MIB, Place
from tests.fuzz.rules import ONE
from tests.fuzz.sources import KEY

DRIP_SECONDS = 0.1
EXPANDED = 256 * MIB
# What may be said to a bomb. 408: it came too slowly on a busy machine; 503: there is no room for it now
SAID = {200, 202, 400, 408, 413, 422, 503}
DOORS = (b"/v1/events", b"/track", b"/v1/batch", b"/v1/cloudevents")

HEAD = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Weir-Key: %b\r\n" % KEY.encode()
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Crawler(NamedTuple):
    """What it sends at first, and then bit by bit until the gateway has enough of it."""

    first: bytes
    drip: bytes
    reads: bool = True  # what it is answered


DOCUMENT = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
NOBODY = b"POST /v1/events HTTP/1.1\r\nHost: x\r\n"

CRAWLERS: dict[str, Crawler] = {
    "says nothing": Crawler(b"", b""),
    "a request line": Crawler(b"POST /", b"x"),
    "a header": Crawler(HEAD + b"X: ", b"x"),
    "headers": Crawler(HEAD, b"X: y\r\n"),
    "a second request's headers": Crawler(ONE + HEAD, b"X: y\r\n"),
    "a body": Crawler(HEAD + b"Content-Length: 1000000\r\n\r\n[", b" "),
    "a body after 100": Crawler(
        HEAD + b"Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n", b" "
    ),
    "chunks": Crawler(CHUNKED, b"1\r\n \r\n"),
    "a chunk's extension": Crawler(CHUNKED + b"1;", b"x"),
    "trailers": Crawler(CHUNKED + b"0\r\n", b"X: y\r\n"),
    "a body that was refused": Crawler(NOBODY + b"Content-Length: 9999999\r\n\r\n", b" "),
    "the body of a page": Crawler(
        b"GET /v1/events/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b" "
    ),
    "reads no answer": Crawler(DOCUMENT * 400, b"\r\n", reads=False),
    "reads no answer, asks on": Crawler(b"", DOCUMENT * 40, reads=False),
}


def crawl(place: Place, at_once: int) -> int:
    """All at once, `at_once` of each; good events are taken meanwhile, and all are hung up on.

    `AssertionError` if the gateway keeps one for longer than anything may take.
    """
    jobs = [what for what in CRAWLERS for _ in range(at_once)]

    async def run() -> list[str]:
        crawling = [asyncio.create_task(_crawl(place.port, CRAWLERS[what])) for what in jobs]
        for _ in range(5):
            await asyncio.to_thread(place.check_up)
        ended = await asyncio.gather(*crawling)
        return sorted({what for what, over in zip(jobs, ended, strict=True) if not over})

    kept = asyncio.run(run())
    assert not kept, f"never hung up on: {', '.join(kept)}"
    return len(jobs)


async def _crawl(port: int, crawler: Crawler) -> bool:
    """Whether the gateway ended it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1_024)
    over = asyncio.create_task(_read_to_end(reader)) if crawler.reads else None
    try:
        async with asyncio.timeout(HANG_SECONDS):
            writer.write(crawler.first)
            while over is None or not over.done():
                writer.write(crawler.drip)
                await writer.drain()
                await asyncio.sleep(DRIP_SECONDS)
        return True
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    finally:
        if over is not None:
            over.cancel()
        writer.transport.abort()


async def _read_to_end(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while await reader.read(65_536):
            pass


@lru_cache(maxsize=1)
def bombs() -> Sequence[tuple[str, str, bytes]]:
    """What each is, its encoding, and its bytes: few that become very many."""
    blank, brackets = b" " * MIB, b"[" * MIB
    gzip = zlib.compressobj(9, zlib.DEFLATED, 31)
    small_gzip = b"".join(map(gzip.compress, [blank] * (EXPANDED // MIB))) + gzip.flush()
    small_br = _brotli(blank)
    zstd = zstandard.ZstdCompressor(19)
    stream = zstd.compressobj()
    small_zstd = b"".join(map(stream.compress, [blank] * (EXPANDED // MIB))) + stream.flush()
    return [
        ("spaces", "gzip", small_gzip),
        ("spaces", "br", small_br),
        ("spaces", "zstd", small_zstd),
        ("spaces", "deflate", zlib.compress(blank * 64, 9)),
        ("brackets", "gzip", zlib.compress(brackets, 9, 31)),
        ("brackets", "br", _brotli(brackets)),
        ("a bomb in a bomb", "gzip", zlib.compress(small_gzip, 9, 31)),
        ("many members", "gzip", zlib.compress(b"", 9, 31) * 90_000),
        ("many frames", "zstd", zstd.compress(b"") * 200_000),
        ("as much as may be", "gzip", zlib.compress(b"[" + b'{"event":"a"},' * 140_000, 9, 31)),
        ("numbers", "zstd", zstd.compress(b"[" + b"0," * 1_000_000 + b"0]")),
        ("objects", "br", _brotli(b"[" + b"{}," * 690_000 + b"{}]", once=True)),
        ("one text", "zstd", zstd.compress(b'{"event":"' + b"a" * 2_000_000 + b'"}')),
        ("names", "", b"{" + b",".join(b'"%x":1' % n for n in range(180_000)) + b"}"),
        ("events", "", b"[" + b",".join([b'{"event":"%b"}' % (b"a" * 200)] * 2_000) + b"]"),
        ("escapes", "", b'[{"event":"a","properties":{"a":"' + b"\\ud800" * 340_000 + b'"}}]'),
    ]


def _brotli(part: bytes, once: bool = False) -> bytes:
    """256 times the part, as small as brotli makes it; or the part, once."""
    stream = brotli.Compressor(quality=5, lgwin=24)
    times = 1 if once else EXPANDED // MIB
    return b"".join(stream.process(part) for _ in range(times)) + bytes(stream.finish())


def bombard(place: Place, at_once: int) -> int:
    """Every bomb at several doors, `at_once` at the same time; each is answered in its turn."""

    async def run() -> int:
        room = asyncio.Semaphore(at_once)

        async def send(name: str, request: bytes) -> None:
            async with room:
                await _bombard(place.port, name, request)

        sent = [
            send(name, _bomb_request(path, encoding, body))
            for path in DOORS
            for name, encoding, body in bombs()
        ]
        await asyncio.gather(*sent)
        return len(sent)

    return asyncio.run(run())


def _bomb_request(path: bytes, encoding: str, body: bytes) -> bytes:
    head = HEAD.replace(b"/v1/events", path) + b"Connection: close\r\n"
    if encoding:
        head += b"Content-Encoding: %b\r\n" % encoding.encode()
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def _bombard(port: int, name: str, request: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        async with asyncio.timeout(HANG_SECONDS):
            with suppress(ConnectionError):  # it need not be read to its end when it is refused
                writer.write(request)
                while part := await reader.read(65_536):
                    received += part
    finally:
        writer.transport.abort()
    answers = read_answers(received, ["POST"])
    assert len(answers) == 1, f"{name}: {len(answers)} answers"
    check_answer(answers[0])
    assert answers[0].status in SAID, f"{name}: {answers[0]}"
