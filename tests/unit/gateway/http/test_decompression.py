"""Decompression returns the whole body or a problem and never exceeds the cap."""

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from weir.gateway.http.decompression import ENCODINGS, decompress
from weir.gateway.http.error_codes import Problem


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


PACK: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli.compress),
    ("zstd", zstandard.compress),
]
CAP = 200_000


def code(found: bytes | Problem) -> str:
    return found.code if isinstance(found, Problem) else ""


@pytest.mark.parametrize(("encoding", "pack"), PACK)
@pytest.mark.parametrize("size", [0, 1, 70_000, CAP])
def test_a_compressed_body_is_restored_in_every_encoding(
    encoding: str, pack: Callable[[bytes], bytes], size: int
) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert decompress(pack(body), encoding, CAP) == body


@pytest.mark.parametrize(("encoding", "pack"), PACK)
def test_a_body_that_decompresses_beyond_the_cap_is_refused(
    encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    assert code(decompress(pack(b"x" * (CAP + 1)), encoding, CAP)) == "body_too_large"
    assert code(decompress(pack(b"x" * 100 * CAP), encoding, CAP)) == "body_too_large"


@pytest.mark.parametrize(("encoding", "pack"), PACK)
def test_a_truncated_compressed_body_is_refused_as_invalid_encoding(
    encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(bytes(range(256)) * 40)
    for end in (len(packed) - 1, len(packed) // 2, 1):
        assert code(decompress(packed[:end], encoding, CAP)) == "invalid_encoding"


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_concatenated_members_are_joined_and_trailing_junk_is_refused(
    pack: Callable[[bytes], bytes],
) -> None:
    encoding = "gzip" if pack is gzip.compress else "zstd"
    assert decompress(pack(b"one") + pack(b"two"), encoding, CAP) == b"onetwo"
    assert code(decompress(pack(b"one") + b"junk", encoding, CAP)) == "invalid_encoding"


@given(st.sampled_from(sorted(ENCODINGS)), st.binary(max_size=200))
def test_decompressing_any_bytes_yields_a_body_or_a_problem(encoding: str, body: bytes) -> None:
    assert isinstance(decompress(body, encoding, CAP), bytes | Problem)


def test_an_unknown_encoding_is_refused_with_the_supported_ones_named() -> None:
    found = decompress(b"", "compress", CAP)
    assert isinstance(found, Problem)
    assert found.code == "unsupported_encoding"
    assert "zstd" in found.detail


def test_a_gzip_body_with_more_than_100_members_is_refused() -> None:
    few, many = (gzip.compress(b"a") * count for count in (100, 101))
    assert decompress(few, "gzip", 1_000) == b"a" * 100
    found = decompress(many, "gzip", 1_000)
    assert isinstance(found, Problem)
    assert found.code == "invalid_encoding"
