"""Decompression works in pieces, stops at the size limit and rejects damaged bodies."""

import gzip
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import brotli
import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from weir.runtime.decompression import (
    ENCODINGS,
    MAX_MEMBERS,
    MEMBER_BYTES,
    BodyTooLargeError,
    DamagedBodyError,
    decompress,
    expand,
)


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


def pack_lz4(body: bytes) -> bytes:
    packed: bytes = lz4.frame.compress(body)
    return packed


def pack_brotli(body: bytes) -> bytes:
    packed: bytes = brotli.compress(body, quality=1)
    return packed


Pack = Callable[[bytes], bytes]
PACK: list[tuple[str, Pack]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", pack_brotli),
    ("zstd", zstandard.compress),
    ("lz4", pack_lz4),
]
IN_MEMBERS = [entry for entry in PACK if entry[0] != "br"]
LARGE = 70 << 20


def noise(size: int) -> bytes:
    return bytes(size // 2) + bytes(range(256)) * (size // 512 + 1)


@pytest.mark.parametrize(("encoding", "pack"), PACK)
@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
def test_decompressing_returns_the_original_body(encoding: str, pack: Pack, size: int) -> None:
    body = noise(size)[:size]
    assert decompress(pack(body), encoding, size) == body
    if size:
        with pytest.raises(BodyTooLargeError):
            decompress(pack(body), encoding, size - 1)


@pytest.mark.parametrize(("encoding", "pack"), PACK)
def test_a_large_body_is_decompressed_in_small_pieces(encoding: str, pack: Pack) -> None:
    """Memory can be reserved piece by piece, because no piece holds the whole body."""
    pieces = [len(piece) for piece in expand(pack(bytes(LARGE)), encoding, LARGE)]
    assert sum(pieces) == LARGE
    assert max(pieces) <= 10 << 20


@pytest.mark.parametrize(("encoding", "pack"), PACK)
def test_a_decompression_bomb_stops_at_the_size_limit(encoding: str, pack: Pack) -> None:
    pieces = expand(pack(bytes(LARGE)), encoding, 1_000)
    with pytest.raises(BodyTooLargeError):
        list(pieces)


@pytest.mark.parametrize(("encoding", "pack"), IN_MEMBERS)
def test_concatenated_members_are_decompressed_as_one_body(encoding: str, pack: Pack) -> None:
    bodies = [noise(size)[:size] for size in (100_000, 0, 3, 65_536)]
    assert decompress(b"".join(map(pack, bodies)), encoding, 1 << 20) == b"".join(bodies)
    with pytest.raises(DamagedBodyError):
        decompress(pack(b"one") + b"junk", encoding, 1 << 20)


@pytest.mark.parametrize(("encoding", "pack"), PACK)
@pytest.mark.parametrize("count", [1 << 12, 1 << 16])
def test_too_many_empty_members_are_rejected(encoding: str, pack: Pack, count: int) -> None:
    """Empty members cost time; a hundred, or one for every whole KiB of the body, are allowed."""
    body = pack(b"") * count
    with pytest.raises(DamagedBodyError):
        decompress(body, encoding, 1 << 20)


def test_many_members_of_normal_size_are_accepted() -> None:
    member = zlib.compressobj(0, wbits=31)  # stored, not compressed
    packed = member.compress(bytes(2 * MEMBER_BYTES)) + member.flush()
    count = 2 * MAX_MEMBERS
    assert decompress(packed * count, "gzip", 1 << 22) == bytes(2 * MEMBER_BYTES * count)


@pytest.mark.parametrize(("encoding", "pack"), PACK)
def test_a_truncated_body_is_rejected_as_damaged(encoding: str, pack: Pack) -> None:
    packed = pack(noise(100_000))
    for end in (len(packed) - 1, len(packed) // 2, 1, 0):
        with pytest.raises(DamagedBodyError):
            decompress(packed[:end], encoding, 1 << 20)


def test_bytes_after_the_end_of_a_brotli_body_are_rejected() -> None:
    packed = pack_brotli(b"a" * 10)
    for junk in (b"x", packed, bytes(200_000)):
        with pytest.raises(DamagedBodyError):
            decompress(packed + junk, "br", 1 << 20)


@given(st.sampled_from(sorted(ENCODINGS)), st.binary(max_size=300), st.data())
def test_any_bytes_are_decompressed_within_the_limit_or_rejected(
    encoding: str, body: bytes, data: Any
) -> None:
    pack = dict(PACK)[encoding]
    at = data.draw(st.integers(0, len(body)))
    for sent in (body, pack(body)[:at] + body, pack(body) + body[:at]):
        with suppress(DamagedBodyError, BodyTooLargeError):
            assert len(decompress(sent, encoding, 1_000)) <= 1_000
