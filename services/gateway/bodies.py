"""Decompresses request bodies, and stops at the cap: memory used is bounded whatever was sent. Pure."""

from services.gateway.refusals import Problem
from services.runtime import decompression

# What is offered to clients, in the order in which it is named to them.
ENCODINGS = ("gzip", "deflate", "br", "zstd")
_UNDERSTOOD = {*ENCODINGS, "x-gzip"}


def decompress(body: bytes, encoding: str, cap: int) -> bytes | Problem:
    """The body without its `Content-Encoding`; a `Problem` if it is damaged, or exceeds `cap` bytes."""
    if encoding not in _UNDERSTOOD:
        known = ", ".join(ENCODINGS)
        return Problem("unsupported_encoding", f"Send {known}, or no Content-Encoding at all.")
    try:
        return decompression.decompress(body, encoding, cap)
    except decompression.TooLargeError:
        return too_large(cap)
    except decompression.DamagedError as fault:
        return Problem("invalid_encoding", f"The body is not {encoding}: {fault}.")


def too_large(cap: int) -> Problem:
    return Problem("body_too_large", f"A request has at most {cap:,} bytes, decompressed.")
