"""Content encodings of ClickHouse's HTTP interface, bounded in memory when unpacking."""

import zlib
from collections.abc import Callable
from typing import Any, Protocol

import brotli
import lz4.frame
import zstandard

_ZSTD_STEP_BYTES = 1024


class Encoder(Protocol):
    def write(self, piece: bytes) -> bytes: ...
    def finish(self) -> bytes: ...


class UnknownEncoding(ValueError):  # noqa: N818  # a fault of the request, not of the program
    """The request names an encoding that is not spoken here."""


class TooLarge(ValueError):  # noqa: N818
    """What a request unpacks to is larger than allowed."""


class _Deflate:
    def __init__(self, wbits: int) -> None:
        self._stream = zlib.compressobj(1, zlib.DEFLATED, wbits)

    def write(self, piece: bytes) -> bytes:
        return self._stream.compress(piece)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Brotli:
    def __init__(self) -> None:
        self._stream: Any = brotli.Compressor(quality=1)

    def write(self, piece: bytes) -> bytes:
        packed: bytes = self._stream.process(piece)
        return packed

    def finish(self) -> bytes:
        packed: bytes = self._stream.finish()
        return packed


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdCompressor(level=1).compressobj()

    def write(self, piece: bytes) -> bytes:
        return self._stream.compress(piece)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Lz4:
    def __init__(self) -> None:
        self._stream: Any = lz4.frame.LZ4FrameCompressor()
        self._head: bytes = self._stream.begin()

    def write(self, piece: bytes) -> bytes:
        head, self._head = self._head, b""
        packed: bytes = self._stream.compress(piece)
        return head + packed

    def finish(self) -> bytes:
        packed: bytes = self._stream.flush()
        return self._head + packed


# In order of preference: the cheapest for the server first.
ENCODERS: dict[str, Callable[[], Encoder]] = {
    "lz4": _Lz4,
    "zstd": _Zstd,
    "gzip": lambda: _Deflate(31),
    "deflate": lambda: _Deflate(15),
    "br": _Brotli,
}


def choose(accept: str) -> str | None:
    """The cheapest encoding that an `Accept-Encoding` header allows, or None for plain bytes."""
    allowed = set()
    for part in accept.lower().split(","):
        name, _, quality = part.partition(";")
        if quality.replace(" ", "") not in ("q=0", "q=0.0"):
            allowed.add(name.strip())
    return next((name for name in ENCODERS if name in allowed), None)


def decode(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Unpack a request body. Raises `TooLarge`, `UnknownEncoding`, or ValueError if it is broken."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    try:
        unpacked = _unpack(name, body, max_bytes)
    except (zlib.error, zstandard.ZstdError, brotli.error, RuntimeError, EOFError) as fault:
        raise ValueError(f"the body is not valid {name}: {fault}") from fault
    if len(unpacked) > max_bytes:
        raise TooLarge(f"the body unpacks to more than {max_bytes} bytes")
    return unpacked


def _unpack(name: str, body: bytes, max_bytes: int) -> bytes:
    if name == "gzip":
        return _unpack_frames(lambda: zlib.decompressobj(31), body, max_bytes)
    if name == "deflate":
        return _unpack_frames(lambda: zlib.decompressobj(15), body, max_bytes)
    if name == "lz4":
        return _unpack_frames(lz4.frame.LZ4FrameDecompressor, body, max_bytes)
    if name == "zstd":
        return _unpack_zstd(body, max_bytes)
    if name == "br":
        return _unpack_brotli(body, max_bytes)
    raise UnknownEncoding(f"Content-Encoding {name!r} is not one of {', '.join(ENCODERS)}")


def _whole(unpacked: bytes, complete: bool, max_bytes: int) -> bytes:
    if not complete and len(unpacked) <= max_bytes:
        raise EOFError("it ends early")
    return unpacked


def _unpack_frames(start: Callable[[], Any], body: bytes, max_bytes: int) -> bytes:
    """A body may be several frames, one after the other."""
    pieces: list[bytes] = []
    room = max_bytes + 1
    while body and room > 0:
        stream = start()
        pieces.append(stream.decompress(body, room))
        room -= len(pieces[-1])
        if not stream.eof:
            return _whole(b"".join(pieces), room <= 0, max_bytes)
        body = stream.unused_data or b""
    return b"".join(pieces)


def _unpack_zstd(body: bytes, max_bytes: int) -> bytes:
    # The library bounds no output by itself: little input at a time (at most 32 MB from each).
    pieces: list[bytes] = []
    size, stream = 0, zstandard.ZstdDecompressor().decompressobj()
    for start in range(0, len(body), _ZSTD_STEP_BYTES):
        step = body[start : start + _ZSTD_STEP_BYTES]
        while step and size <= max_bytes:
            if stream.eof:
                stream = zstandard.ZstdDecompressor().decompressobj()
            pieces.append(stream.decompress(step))
            size += len(pieces[-1])
            step = stream.unused_data if stream.eof else b""
    return _whole(b"".join(pieces), stream.eof, max_bytes)


def _unpack_brotli(body: bytes, max_bytes: int) -> bytes:
    stream: Any = brotli.Decompressor()
    pieces: list[bytes] = [stream.process(body, output_buffer_limit=1 << 20)]
    size = len(pieces[0])
    while size <= max_bytes and not stream.can_accept_more_data():
        pieces.append(stream.process(b"", output_buffer_limit=1 << 20))
        size += len(pieces[-1])
    return _whole(b"".join(pieces), stream.is_finished(), max_bytes)
