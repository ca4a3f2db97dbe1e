"""Decompress request bodies piece by piece. Memory and time are bounded for any input. Pure."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import brotli
import lz4.frame
import zstandard

# A larger zstd window is refused, as RFC 9659 requires for HTTP.
ZSTD_WINDOW_BYTES = 8 << 20
PIECE_BYTES = 1 << 20
# Input is fed in slices, because each call of a decompressor copies the input that it has not consumed.
SLICE_BYTES = 1 << 16
# zstd does not limit its output, and a few bytes can encode a block of 128 KiB: a slice gives at most 10 MiB.
ZSTD_SLICE_BYTES = 256
# Starting a member costs microseconds, so a body of empty members would take seconds.
MAX_MEMBERS = 100
MEMBER_BYTES = 1_024


class DamagedBodyError(Exception):
    """The body is not valid in the encoding that the request states."""


class BodyTooLargeError(Exception):
    """The body decompresses to more than the cap."""


class _Member(Protocol):
    """One compressed stream of a body; gzip, zstd and lz4 allow several in sequence."""

    @property
    def ended(self) -> bool: ...

    @property
    def rest(self) -> bytes:
        """The input after the end of the member."""

    def feed(self, piece: bytes) -> Iterator[bytes]: ...


class _CompressedStream:
    """The common attributes of the libraries' decompressors."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def ended(self) -> bool:
        return bool(self._stream.eof)

    @property
    def rest(self) -> bytes:
        return self._stream.unused_data or b""


class _Inflate(_CompressedStream):
    def __init__(self, window: int) -> None:
        super().__init__(zlib.decompressobj(window))

    def feed(self, piece: bytes) -> Iterator[bytes]:
        while True:
            part = self._stream.decompress(piece, PIECE_BYTES)
            yield part
            if len(part) < PIECE_BYTES:
                return
            piece = self._stream.unconsumed_tail


class _Brotli:
    def __init__(self) -> None:
        self._stream: Any = brotli.Decompressor()
        self.rest = b""

    @property
    def ended(self) -> bool:
        return bool(self._stream.is_finished())

    def feed(self, piece: bytes) -> Iterator[bytes]:
        part = self._stream.process(piece, output_buffer_limit=PIECE_BYTES)
        while part or not (self.ended or self._stream.can_accept_more_data()):
            yield part
            part = b"" if self.ended else self._stream.process(b"", output_buffer_limit=PIECE_BYTES)


class _Zstd(_CompressedStream):
    def __init__(self) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
        super().__init__(decompressor.decompressobj(read_across_frames=False))

    def feed(self, piece: bytes) -> Iterator[bytes]:
        yield self._stream.decompress(piece)


class _Lz4(_CompressedStream):
    def __init__(self) -> None:
        super().__init__(lz4.frame.LZ4FrameDecompressor())

    def feed(self, piece: bytes) -> Iterator[bytes]:
        yield self._stream.decompress(piece, PIECE_BYTES)
        while not self.ended and not self._stream.needs_input:
            yield self._stream.decompress(b"", PIECE_BYTES)


def _gzip(body: bytes) -> _Member:
    return _Inflate(16 + zlib.MAX_WBITS)


def _deflate(body: bytes) -> _Member:
    """Accept data with zlib's header, as RFC 9110 requires, or without it, as some clients send it."""
    has_header = len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return _Inflate(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


# Each function starts a member at the beginning of the given bytes.
_START: dict[str, Callable[[bytes], _Member]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,  # RFC 9110, 8.4.1.3
    "deflate": _deflate,
    "br": lambda body: _Brotli(),
    "zstd": lambda body: _Zstd(),
    "lz4": lambda body: _Lz4(),
}
ENCODINGS = frozenset(_START)
_FAULTS = (zlib.error, brotli.error, zstandard.ZstdError, RuntimeError, EOFError)


def expand(body: bytes, encoding: str, cap: int) -> Iterator[bytes]:
    """Yield the decompressed body (`encoding`: one of ENCODINGS), at most `cap` bytes in total.

    Pieces have about PIECE_BYTES at most (10 MiB with zstd), so that memory can be reserved piece by piece.
    `DamagedBodyError` and `BodyTooLargeError` may come after the first pieces.
    """
    slice_bytes = ZSTD_SLICE_BYTES if encoding == "zstd" else SLICE_BYTES
    most = 1 if encoding == "br" else max(MAX_MEMBERS, len(body) // MEMBER_BYTES)
    member: _Member | None = None
    members = size = 0
    for start in range(0, len(body), slice_bytes):
        piece = body[start : start + slice_bytes]
        while piece:
            if member is None or member.ended:
                members += 1
                if members > most:
                    raise DamagedBodyError(f"it has more than {most} members")
                member = _START[encoding](piece)
            try:
                for part in member.feed(piece):
                    size += len(part)
                    if size > cap:
                        raise BodyTooLargeError
                    yield part
            except _FAULTS as fault:
                raise DamagedBodyError(str(fault)) from None
            piece = member.rest if member.ended else b""
    if member is None or not member.ended:
        raise DamagedBodyError("it ends early")


def decompress(body: bytes, encoding: str, cap: int) -> bytes:
    """Return the decompressed body. `DamagedBodyError`, `BodyTooLargeError`."""
    return b"".join(expand(body, encoding, cap))
