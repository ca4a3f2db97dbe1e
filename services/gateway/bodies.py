"""Decompresses request bodies, and stops at the cap: memory used is bounded whatever was sent. Pure."""

import zlib
from collections.abc import Callable

import brotli
import zstandard

from services.gateway.refusals import Problem

# A zstd window larger than this is refused, as RFC 9659 asks of HTTP.
ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
# A few bytes of zstd can stand for a block of 128 KiB: fed in slices, at most 10 MiB come out at once.
ZSTD_SLICE = 256
# What follows a gzip member is copied each time: a body of empty ones would take seconds.
MAX_MEMBERS = 100


class _DamagedError(Exception):
    """What was sent is not in the encoding that it claims."""


class _TooLargeError(Exception):
    """More than the cap came out."""


def decompress(body: bytes, encoding: str, cap: int) -> bytes | Problem:
    """The body without its `Content-Encoding`; a `Problem` if it is damaged, or exceeds `cap` bytes."""
    expand = ENCODINGS.get(encoding)
    if expand is None:
        known = ", ".join(ENCODINGS)
        return Problem("unsupported_encoding", f"Send {known}, or no Content-Encoding at all.")
    try:
        return expand(body, cap)
    except _TooLargeError:
        return too_large(cap)
    except _DamagedError as fault:
        return Problem("invalid_encoding", f"The body is not {encoding}: {fault}.")


def too_large(cap: int) -> Problem:
    return Problem("body_too_large", f"A request has at most {cap:,} bytes, decompressed.")


def _inflate(body: bytes, cap: int, window: int) -> bytes:
    """Every member of the stream; gzip files may have several."""
    parts: list[bytes] = []
    room = cap + 1
    while body:
        if len(parts) == MAX_MEMBERS:
            raise _DamagedError(f"it has more than {MAX_MEMBERS} members")
        stream = zlib.decompressobj(window)
        try:
            part = stream.decompress(body, room)
        except zlib.error as fault:
            raise _DamagedError(str(fault)) from None
        room -= len(part)
        if room <= 0:
            raise _TooLargeError
        if not stream.eof:
            raise _DamagedError("it ends early")
        parts.append(part)
        body = stream.unused_data
    return b"".join(parts)


def _gzip(body: bytes, cap: int) -> bytes:
    return _inflate(body, cap, 16 + zlib.MAX_WBITS)


def _deflate(body: bytes, cap: int) -> bytes:
    """With zlib's header, as RFC 9110 has it, or without, as some clients send it."""
    has_header = len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return _inflate(body, cap, zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def _brotli(body: bytes, cap: int) -> bytes:
    stream = brotli.Decompressor()
    parts: list[bytes] = []
    size = 0
    try:
        part = stream.process(body, output_buffer_limit=cap + 1)
        while True:
            size += len(part)
            if size > cap:
                raise _TooLargeError
            parts.append(part)
            if stream.is_finished() or (not part and stream.can_accept_more_data()):
                break
            part = stream.process(b"", output_buffer_limit=cap + 1 - size)
    except brotli.error as fault:
        raise _DamagedError(str(fault)) from None
    if not stream.is_finished():
        raise _DamagedError("it ends early")
    return b"".join(parts)


def _zstd(body: bytes, cap: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    stream = decompressor.decompressobj(read_across_frames=False)
    parts: list[bytes] = []
    size = 0
    for start in range(0, len(body), ZSTD_SLICE):
        piece = body[start : start + ZSTD_SLICE]
        while piece:
            if stream.eof:
                stream = decompressor.decompressobj(read_across_frames=False)
            try:
                part = stream.decompress(piece)
            except zstandard.ZstdError as fault:
                raise _DamagedError(str(fault)) from None
            size += len(part)
            if size > cap:
                raise _TooLargeError
            parts.append(part)
            piece = stream.unused_data if stream.eof else b""
    if not stream.eof:
        raise _DamagedError("it ends early")
    return b"".join(parts)


ENCODINGS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
