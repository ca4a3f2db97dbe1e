"""Decompress request bodies. Memory is reserved as it is needed, never in advance. Pure."""

from collections.abc import Callable

from weir.gateway.http.error_codes import Problem
from weir.runtime import decompression

# The encodings offered to clients, in the order in which messages name them.
ENCODINGS = ("gzip", "deflate", "br", "zstd")
_UNDERSTOOD = {*ENCODINGS, "x-gzip"}

Reserve = Callable[[int], bool]


class NotReservedError(Exception):
    """The memory for the next piece was not granted."""


def decompress(
    body: bytes, encoding: str, cap: int, reserve: Reserve = lambda size: True
) -> bytes | Problem:
    """Return the decompressed body; a `Problem` if it is damaged, exceeds `cap` bytes or has an unknown encoding.

    `reserve` is called with the size of every decompressed piece; `NotReservedError` if it returns False.
    """
    if encoding not in _UNDERSTOOD:
        known = ", ".join(ENCODINGS)
        return Problem("unsupported_encoding", f"Send one of {known}, or no Content-Encoding.")
    parts: list[bytes] = []
    try:
        for part in decompression.expand(body, encoding, cap):
            if not reserve(len(part)):
                raise NotReservedError
            parts.append(part)
    except decompression.BodyTooLargeError:
        return too_large(cap)
    except decompression.DamagedBodyError as fault:
        return Problem("invalid_encoding", f"The body is not valid {encoding}: {fault}.")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def too_large(cap: int) -> Problem:
    return Problem(
        "body_too_large", f"A request may have at most {cap:,} bytes after decompression."
    )
