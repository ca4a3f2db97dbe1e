"""Content encodings of ClickHouse's HTTP interface; decompression is bounded in memory."""

import zlib
from collections.abc import Callable
from typing import Any, Protocol

import brotli
import lz4.frame
import zstandard

from weir.runtime import decompression


class Encoder(Protocol):
    def write(self, piece: bytes) -> bytes: ...
    def finish(self) -> bytes: ...


class UnknownEncoding(ValueError):  # noqa: N818  # a fault of the request, not of the program
    """The request names an encoding that this server does not support."""


class TooLarge(ValueError):  # noqa: N818
    """The decompressed body of a request is larger than allowed."""


class _Deflate:
    def __init__(self, wbits: int) -> None:
        self._stream = zlib.compressobj(1, zlib.DEFLATED, wbits)

    def write(self, piece: bytes) -> bytes:
        return self._stream.compress(piece)

    def finish(self) -> bytes:
        return self._stream.flush()


class _BrotliEncoder:
    def __init__(self) -> None:
        self._stream: Any = brotli.Compressor(quality=1)

    def write(self, piece: bytes) -> bytes:
        packed: bytes = self._stream.process(piece)
        return packed

    def finish(self) -> bytes:
        packed: bytes = self._stream.finish()
        return packed


class _ZstdEncoder:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdCompressor(level=1).compressobj()

    def write(self, piece: bytes) -> bytes:
        return self._stream.compress(piece)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Lz4Encoder:
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
    "lz4": _Lz4Encoder,
    "zstd": _ZstdEncoder,
    "gzip": lambda: _Deflate(31),
    "deflate": lambda: _Deflate(15),
    "br": _BrotliEncoder,
}


def choose(accept: str) -> str | None:
    """Return the cheapest encoding that an `Accept-Encoding` header allows, or None for plain bytes."""
    allowed = set()
    for part in accept.lower().split(","):
        name, _, quality = part.partition(";")
        if quality.replace(" ", "") not in ("q=0", "q=0.0"):
            allowed.add(name.strip())
    return next((name for name in ENCODERS if name in allowed), None)


def decode(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Decompress a request body. Raises `TooLarge`, `UnknownEncoding`, or ValueError if it is damaged."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in decompression.ENCODINGS:
        raise UnknownEncoding(f"Content-Encoding {name!r} is not one of {', '.join(ENCODERS)}")
    try:
        return decompression.decompress(body, name, max_bytes)
    except decompression.BodyTooLargeError:
        raise TooLarge(f"the decompressed body is larger than {max_bytes} bytes") from None
    except decompression.DamagedBodyError as fault:
        raise ValueError(f"the body is not valid {name}: {fault}") from None
